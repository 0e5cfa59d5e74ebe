package ast_test

import (
	"crypto/x509"
	"encoding/base64"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// certificateOf reads CA-07.
func (w *world) certificateOf(spec string) *x509.Certificate {
	w.tb.Helper()
	var got struct {
		Certificate string `json:"certificate"`
	}
	w.into(w.call("CA-07", w.reader, "alpha", "", spec), 200, &got)
	if got.Certificate == "" {
		return nil
	}
	der, err := base64.StdEncoding.DecodeString(got.Certificate)
	require.NoError(w.tb, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(w.tb, err)
	return c
}

const someClient = "01FH8MDGN9W5C3RXRFNX6G164S"

func TestCA04_CA08_DeleteSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-04", w.writer, "alpha", "").Code, "no signer yet")
	require.Equal(t, 404, w.call("CA-08", w.writer, "alpha", "", "current").Code)
	for _, id := range []string{"CA-04", "CA-08"} {
		var s signer
		w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
		rec := w.call(id, w.writer, "alpha", "", "current")
		require.Equal(t, 204, rec.Code, "%s: %s", id, rec.Body)
		require.Empty(t, rec.Body.String())
		require.Equal(t, 404, w.call("CA-07", w.reader, "alpha", "", s.ID).Code)
		require.Equal(t, 404, w.call("CA-13", w.reader, "alpha", "", s.ID).Code, "and its certificate")
		require.Equal(t, 404, w.call("CA-08", w.writer, "alpha", "", s.ID).Code)
	}
	require.Equal(t, "0", w.call("CA-05", w.reader, "alpha", "").Header().Get("X-Total-Count"))
	require.Equal(t, "0", w.call("CA-12", w.reader, "alpha", "").Header().Get("X-Total-Count"))

	var s signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	w.device("jane", someClient)
	for _, id := range []string{"CA-04", "CA-08"} {
		rec := w.call(id, w.writer, "alpha", "", "current")
		require.Equal(t, 409, rec.Code, "it has issued")
		require.Contains(t, rec.Body.String(), ca.ErrSignerUsed.Message)
	}
	require.NotNil(t, w.certificateOf(s.ID))
	for _, bad := range []string{"Current", "x", s.ID + "0"} {
		require.Equal(t, 400, w.call("CA-08", w.writer, "alpha", "", bad).Code)
	}
}

func TestCA03_CA10_RenewSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-03", w.writer, "alpha", "").Code, "no signer yet")
	require.Equal(t, 404, w.call("CA-10", w.writer, "alpha", "", "current").Code)
	var s, old, got signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &old)
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	before := w.certificateOf("current")
	for id, body := range map[string]string{"CA-03": `{"ignoreNotIssued":true}`, "CA-10": ""} {
		w.into(w.call(id, w.writer, "alpha", body, "current"), 202, &got)
		require.Equal(t, s.ID, got.ID, id)
		require.Equal(t, "ACTIVE", got.State)
		after := w.certificateOf("current")
		require.NotEqual(t, before.SerialNumber, after.SerialNumber, "another certificate")
		require.Equal(t, before.RawSubjectPublicKeyInfo, after.RawSubjectPublicKeyInfo, "the same key")
		before = after
	}
	w.into(w.call("CA-10", w.writer, "alpha", `{}`, old.ID), 202, &got)
	require.Equal(t, "RETIRED", got.State, "a retired one is renewed and stays retired")
	var info certificate
	w.into(w.call("CA-13", w.reader, "alpha", "", s.ID), 200, &info)
	require.Equal(t, "ISSUED", info.Status)
	require.Equal(t, "2", w.call("CA-12", w.reader, "alpha", "", filtered("profile=SIGNER")).Header().Get("X-Total-Count"), "one entry per signer")

	for _, body := range []string{`{"ignoreNotIssued":null}`, `{"ignoreNotIssued":"true"}`, `{"force":true}`, `[]`, `true`} {
		require.Equal(t, 400, w.call("CA-10", w.writer, "alpha", body, "current").Code, body)
		require.Equal(t, 400, w.call("CA-03", w.writer, "alpha", body).Code, body)
	}
}

func TestCA11_RevokeSigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-11", w.writer, "alpha", "", "current").Code, "no signer yet")
	var s signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	made := w.device("jane", someClient)
	rec := w.call("CA-11", w.writer, "alpha", "", "current")
	require.Equal(t, 204, rec.Code, "%s", rec.Body)
	require.Empty(t, rec.Body.String())

	require.Nil(t, w.certificateOf(s.ID), "erased")
	require.Equal(t, 409, w.call("CA-09", w.reader, "alpha", "", s.ID).Code)
	require.Equal(t, 404, w.call("CA-07", w.reader, "alpha", "", "current").Code)
	var info certificate
	w.into(w.call("CA-13", w.reader, "alpha", "", s.ID), 200, &info)
	require.Equal(t, "REVOKED", info.Status)
	require.Equal(t, 200, w.call("CA-13", w.reader, "alpha", "", made.Ref).Code)
	require.Equal(t, "1", w.call("CA-05", w.reader, "alpha", "", filtered("state=REVOKED")).Header().Get("X-Total-Count"))
	require.Equal(t, "1", w.call("CA-12", w.reader, "alpha", "", filtered("status=REVOKED and profile=SIGNER")).Header().Get("X-Total-Count"))
	require.Equal(t, 409, w.call("CA-14", w.writer, "alpha", sdkBody(t, []string{base64.StdEncoding.EncodeToString(w.Root)}, nil)).Code)
	_, err := w.Authority.IssueDevice(t.Context(), pgtest.Alpha, ca.IssueRequest{CSR: newCSR(t), User: "jane", Client: someClient})
	require.ErrorIs(t, err, ca.ErrNoSigner)
	for _, id := range []string{"CA-08", "CA-10", "CA-11"} {
		require.Equal(t, 409, w.call(id, w.writer, "alpha", "", s.ID).Code, "%s of a revoked signer", id)
	}
	require.Equal(t, 404, w.call("CA-11", w.writer, "alpha", "", ulid.Make().String()).Code)
}
