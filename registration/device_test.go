package registration_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

const pk, pb = signature.PossessionKnowledge, signature.PossessionBiometry

func TestStatus(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr")
	challenge := [16]byte{1, 2, 3}
	read := func() signature.Status {
		t.Helper()
		a, err := w.node.Status(ctx, d.id, &challenge)
		require.NoError(t, err)
		s, err := d.keys.DecryptStatus(a.Blob[:], &challenge, a.Nonce)
		require.NoError(t, err)
		return s
	}
	require.True(t, d.verify(d.sign(pk)).Valid)
	d.verify(d.wrong(pk))
	s := read()
	require.Equal(t, signature.Status{
		State: 3, CurrentVersion: 3, UpgradeVersion: 3, CounterByte: 1, FailedAttempts: 1, MaxFailedAttempts: 5,
		LookAhead: 20, CounterHash: d.keys.CounterHash(d.ctr),
	}, s)
	a, err := w.node.Status(ctx, d.id, nil)
	require.NoError(t, err)
	require.Nil(t, a.Nonce)
	s, err = d.keys.DecryptStatus(a.Blob[:], nil, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, s.State)
	require.NotEqual(t, d.keys.CounterHash(d.ctr), s.CounterHash, "no counter without a challenge")

	require.NoError(t, w.change(d.id, registration.Block))
	require.EqualValues(t, 4, read().State)
	require.NoError(t, w.change(d.id, registration.Remove))
	require.EqualValues(t, 5, read().State, "the device may know that it was removed")

	d = w.newDevice(alpha)
	require.NoError(t, d.activate(ctx, w.node, w.create(alpha, "petr").ActivationCode, ""))
	require.EqualValues(t, 2, read().State)
	w.skew.Store(int64(registration.DefaultValidity))
	require.EqualValues(t, 5, read().State, "expired")
	require.Equal(t, registration.StateRemoved, w.row(alpha, d.id).State)
}

func TestStatusOfTheUnknownLooksLikeAnyOther(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	c := w.create(alpha, "petr")
	challenge := [16]byte{1}
	for name, id := range map[string]string{"unknown": "8819ac31-ad29-40d1-ac60-1b54293abe61", "no UUID": "x", "CREATED": c.ID} {
		a, err := w.node.Status(ctx, id, &challenge)
		require.NoError(t, err, name)
		require.NotNil(t, a.Nonce, name)
		b, err := w.node.Status(ctx, id, nil)
		require.NoError(t, err, name)
		require.Nil(t, b.Nonce, name)
		require.NotEqual(t, a.Blob, b.Blob, name)
		require.NotZero(t, a.Blob, name)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err := w.node.Status(over, c.ID, &challenge)
	require.ErrorIs(t, err, fault.ErrUnavailable, "an outage is not REMOVED")
}

func TestRemoveDevice(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	q := w.listen()
	d := w.active(alpha, "petr")
	_, err := w.node.RemoveDevice(ctx, d.signed(signature.V33, signature.Possession, "POST", registration.URIRemove, nil))
	require.ErrorIs(t, err, registration.ErrSignatureType)
	require.Zero(t, w.row(alpha, d.id).Failed, "not an attempt")
	_, err = w.node.RemoveDevice(ctx, d.signed(signature.V33, pk, "POST", registration.URIValidate, nil))
	require.ErrorIs(t, err, registration.ErrSignature, "signed for something else")
	require.Equal(t, 1, w.row(alpha, d.id).Failed)
	id, err := w.node.RemoveDevice(ctx, d.signed(signature.V33, pk, "POST", registration.URIRemove, []byte(`{}`)))
	require.NoError(t, err)
	require.Equal(t, d.id, id)
	require.Equal(t, registration.StateRemoved, w.row(alpha, d.id).State)
	require.Equal(t, "device", w.events(alpha, d.id, "registration.remove")[0].Actor)
	require.Equal(t, []string{"CREATED", "PENDING_COMMIT", "ACTIVE", "REMOVED"}, q.of(d.id))
	_, err = w.node.RemoveDevice(ctx, d.signed(signature.V33, pk, "POST", registration.URIRemove, nil))
	require.ErrorIs(t, err, registration.ErrSignature)
}

func TestValidateSignature(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d := w.active(alpha, "petr")
	for i, method := range []string{"POST", "PUT", "DELETE", "GET"} {
		for range 3 { // the counter of the device has run ahead
			d.ctr = d.ctr.Next()
		}
		require.NoError(t, w.node.ValidateSignature(ctx, d.signed(signature.V31, signature.Possession, method, registration.URIValidate, nil)))
		require.EqualValues(t, 4*(i+1), w.row(alpha, d.id).Counter)
	}
	require.ErrorIs(t, w.node.ValidateSignature(ctx, d.signed(signature.V31, signature.Knowledge, "POST", registration.URIValidate, nil)),
		registration.ErrSignatureType)
	req := d.signed(signature.V31, pk, "POST", registration.URIValidate, nil)
	req.Header.ApplicationKey = [16]byte{}
	require.ErrorIs(t, w.node.ValidateSignature(ctx, req), registration.ErrSignature)
	req.Header.ActivationID = "8819ac31-ad29-40d1-ac60-1b54293abe61"
	require.ErrorIs(t, w.node.ValidateSignature(ctx, req), registration.ErrSignature)
	req.Header.ApplicationKey = w.version[beta].Key // the twin's application does not know the registration
	req.Header.ActivationID = d.id
	require.ErrorIs(t, w.node.ValidateSignature(ctx, req), registration.ErrSignature)
	require.Zero(t, w.row(alpha, d.id).Failed)
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, w.node.ValidateSignature(over, d.signed(signature.V31, pk, "POST", registration.URIValidate, nil)), fault.ErrUnavailable)
}

func TestRenameInEveryVersion(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	for _, v := range versions {
		d := w.active(alpha, "user-"+v.String())
		rename := func(name any, sign func(plain, body []byte) registration.SignedRequest) error {
			plain := map[string]any{"activationName": name}
			text, err := json.Marshal(plain)
			require.NoError(t, err)
			body, open := d.sealScoped(v, signature.InfoActivation, d.keyFor(v), plain)
			resp, err := w.node.Rename(ctx, sign(text, body))
			if err != nil {
				return err
			}
			var got map[string]any
			d.opens(open, resp, &got)
			require.Equal(t, map[string]any{"status": "OK", "responseObject": map[string]any{"activationId": d.id, "activationName": name}}, got)
			return nil
		}
		good := func(plain, body []byte) registration.SignedRequest {
			req := d.signed(v, pk, "POST", registration.URIRename, plain)
			req.Body = body
			return req
		}
		require.NoError(t, rename("Petrův telefon", good), v)
		require.Equal(t, "Petrův telefon", w.row(alpha, d.id).Name)
		require.ErrorIs(t, rename("x", func(_, body []byte) registration.SignedRequest {
			return d.signed(v, pk, "POST", registration.URIRename, body)
		}), registration.ErrSignature, "the plaintext is what is signed")
		require.ErrorIs(t, rename("", good), registration.ErrRequest)
		require.ErrorIs(t, rename(1, good), registration.ErrFormat)
		require.Equal(t, "Petrův telefon", w.row(alpha, d.id).Name)
		require.Len(t, w.events(alpha, d.id, "registration.rename"), 1)

		// Once: the envelope is refused before the signature is looked at.
		plain := map[string]any{"activationName": "again"}
		text, err := json.Marshal(plain)
		require.NoError(t, err)
		body, _ := d.sealScoped(v, signature.InfoActivation, d.keyFor(v), plain)
		_, err = w.node.Rename(ctx, good(text, body))
		require.NoError(t, err)
		_, err = w.node.Rename(ctx, good(text, body))
		if v >= signature.V32 {
			require.ErrorIs(t, err, registration.ErrRequest, v)
		} else {
			require.NoError(t, err, v) // only the signature is fresh then
		}
	}
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	d, twin := w.active(alpha, "petr"), w.active(beta, "petr")
	seal := func(d *device) ([]byte, signature.EncryptionHeader) {
		body, _ := d.sealScoped(signature.V32, signature.InfoActivation, nil, struct{}{})
		return body, signature.EncryptionHeader{ApplicationKey: w.version[d.tenant].Key, ActivationID: d.id, Version: signature.V32}
	}
	for name, c := range map[string]struct {
		want   error
		change func(h *signature.EncryptionHeader, body *[]byte)
	}{
		"no JSON":         {registration.ErrRequest, func(_ *signature.EncryptionHeader, b *[]byte) { *b = []byte("x") }},
		"repeated member": {registration.ErrRequest, func(_ *signature.EncryptionHeader, b *[]byte) { *b = append([]byte(`{"mac":"AA==",`), (*b)[1:]...) }},
		"empty":           {registration.ErrRequest, func(_ *signature.EncryptionHeader, b *[]byte) { *b = nil }},
		"other version":   {registration.ErrRequest, func(h *signature.EncryptionHeader, _ *[]byte) { h.Version = signature.V31 }},
		"no key id":       {registration.ErrRequest, func(h *signature.EncryptionHeader, _ *[]byte) { h.Version = signature.V33 }},
		"application key": {registration.ErrDecrypt, func(h *signature.EncryptionHeader, _ *[]byte) { h.ApplicationKey[0] ^= 1 }},
		"unknown id": {registration.ErrDecrypt, func(h *signature.EncryptionHeader, _ *[]byte) {
			h.ActivationID = "8819ac31-ad29-40d1-ac60-1b54293abe61"
		}},
		"no UUID":   {registration.ErrDecrypt, func(h *signature.EncryptionHeader, _ *[]byte) { h.ActivationID = "x" }},
		"twin's id": {registration.ErrDecrypt, func(h *signature.EncryptionHeader, _ *[]byte) { h.ActivationID = twin.id }},
		"twin's message": {registration.ErrDecrypt, func(_ *signature.EncryptionHeader, b *[]byte) {
			*b, _ = seal(twin)
		}},
	} {
		body, h := seal(d)
		c.change(&h, &body)
		_, err := w.node.Open(ctx, h, signature.InfoActivation, body)
		require.ErrorIs(t, err, c.want, name)
	}
	body, h := seal(d)
	_, err := w.node.Open(ctx, h, signature.InfoVaultUnlock, body)
	require.ErrorIs(t, err, registration.ErrDecrypt, "another purpose")
	require.NoError(t, w.change(d.id, registration.Block))
	_, err = w.node.Open(ctx, h, signature.InfoActivation, body)
	require.ErrorIs(t, err, registration.ErrDecrypt, "BLOCKED")
	var n int
	require.NoError(t, w.db.QueryRow(ctx, `select count(*) from used_nonce where type = 'REGISTRATION'`).Scan(&n))
	require.Zero(t, n, "nothing authenticated, nothing stored")
}

func TestVaultUnlockInEveryVersion(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	for _, v := range versions {
		d := w.active(alpha, "user-"+v.String())
		unlock := func(node *registration.Registrar, f signature.Factor, plain any) error {
			body, open := d.sealScoped(v, signature.InfoVaultUnlock, d.keyFor(v), plain)
			resp, err := node.VaultUnlock(ctx, d.signed(v, f, "POST", registration.URIVault, body))
			if err != nil {
				return err
			}
			var got struct{ EncryptedVaultEncryptionKey string }
			d.opens(open, resp, &got)
			raw, err := signature.ParseBase64(got.EncryptedVaultEncryptionKey)
			require.NoError(t, err)
			key, err := d.keys.DecryptVaultKey(raw)
			require.NoError(t, err)
			require.Equal(t, d.keys.VaultKey(), key)
			return nil
		}
		require.NoError(t, unlock(w.node, pk, map[string]string{"reason": "ADD_BIOMETRY"}), v)
		require.NoError(t, unlock(w.node, pk, struct{}{}), v)
		require.ErrorIs(t, unlock(w.node, pk, map[string]string{"reason": "a b"}), registration.ErrRequest)
		require.ErrorIs(t, unlock(w.node, pk, map[string]int{"reason": 1}), registration.ErrFormat)
		require.ErrorIs(t, unlock(w.node, signature.Possession, struct{}{}), registration.ErrSignatureType)
		require.ErrorIs(t, unlock(w.node, pb, struct{}{}), registration.ErrSignatureType)
		w.vaultBiometry = true
		node := w.newNode(w.db, nil)
		w.vaultBiometry = false
		require.NoError(t, unlock(node, pb, struct{}{}))
		events := w.events(alpha, d.id, "registration.vault_unlock")
		require.Len(t, events, 3)
		require.Equal(t, "ADD_BIOMETRY", events[0].Detail["reason"])
	}
}

type vouchers struct {
	commit bool
	err    error
}

func (v vouchers) Resolve(_ context.Context, a registration.CustomActivation) (*registration.CustomUser, error) {
	if v.err != nil {
		return nil, v.err
	}
	if a.Tenant != alpha || a.App != "APP" || a.Identity["voucher"] != "V-1" || a.Custom["campaign"] != "spring" {
		return nil, nil
	}
	return &registration.CustomUser{UserID: "petr", Flags: []string{"VOUCHER"}, Commit: v.commit}, nil
}

func TestCustomActivation(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	activate := func(node *registration.Registrar, voucher string, change ...func(layer2 map[string]any)) (*device, error) {
		d := w.newDevice(alpha)
		layer2 := map[string]any{"devicePublicKey": signature.EncodeBase64(d.private.PublicKey().Bytes())}
		for _, f := range change {
			f(layer2)
		}
		inner, openInner := d.seal(signature.InfoLayer2, layer2)
		outer, openOuter := d.seal(signature.InfoApplication, map[string]any{
			"activationType": "CUSTOM", "identityAttributes": map[string]any{"voucher": voucher},
			"customAttributes": map[string]any{"campaign": "spring"}, "activationData": inner,
		})
		resp, err := node.Activate(ctx, registration.ActivateRequest{
			Header: signature.EncryptionHeader{ApplicationKey: w.version[alpha].Key, Version: d.protocol}, Message: outer,
		})
		if err == nil {
			d.accept(resp, openOuter, openInner)
		}
		return d, err
	}
	with := func(p registration.ActivationProvider) *registration.Registrar {
		w.custom = p
		return w.newNode(w.db, nil)
	}
	_, err := activate(w.node, "V-1")
	require.ErrorIs(t, err, registration.ErrRequest, "nobody resolves")
	node := with(vouchers{commit: true})
	d, err := activate(node, "V-1")
	require.NoError(t, err)
	got, err := w.node.Get(ctx, alpha, mine, d.id)
	require.NoError(t, err)
	require.Equal(t, registration.StateActive, got.State)
	require.Equal(t, []string{"petr", "VOUCHER"}, []string{got.UserID, got.Flags[0]})
	require.True(t, d.verify(d.sign(pk)).Valid)

	_, err = activate(node, "V-2")
	require.ErrorIs(t, err, registration.ErrActivation)
	_, err = activate(node, "V-1", func(m map[string]any) { m["activationOtp"] = "1" })
	require.ErrorIs(t, err, registration.ErrOTP)
	_, err = activate(node, "V-1", func(m map[string]any) { m["devicePublicKey"] = "AAAA" })
	require.ErrorIs(t, err, registration.ErrActivation)
	_, err = activate(with(vouchers{err: errors.New("down")}), "V-1")
	require.ErrorIs(t, err, fault.ErrUnavailable)
	list, err := w.node.List(ctx, alpha, mine, "petr")
	require.NoError(t, err)
	require.Len(t, list, 1, "nothing is left in progress")

	waits, err := activate(with(vouchers{}), "V-1")
	require.NoError(t, err)
	require.Equal(t, registration.StatePendingCommit, w.row(alpha, waits.id).State)
	_, err = activate(node, "V-1")
	require.ErrorIs(t, err, registration.ErrNotAllowed)
	require.InDelta(t, time.Now().UnixMilli(), w.node.ServerTime(), 60_000)
}
