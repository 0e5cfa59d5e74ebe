package ca_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/filter"
)

func TestCA05_FilterSigners(t *testing.T) {
	t.Parallel()
	_, a := bundle(t)
	ctx := t.Context()
	start := time.Now().UTC().Truncate(time.Microsecond)
	names := []string{"SignerA-1", "signera-2", "Über 100%", "under_score", `back\slash`, "o'neil", "last"}
	var signers []ca.Signer
	for _, name := range names {
		s, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{Name: name})
		require.NoError(t, err)
		signers = append(signers, s)
	}
	_, err := a.CreateSigner(ctx, beta, ca.CreateSigner{Name: "SignerA-1"})
	require.NoError(t, err)

	quoted := func(at time.Time) string { return "'" + at.Format(time.RFC3339Nano) + "'" }
	for text, want := range map[string][]int{ // generations
		"":                                     {6, 5, 4, 3, 2, 1, 0},
		"name^=SignerA-":                       {0},
		"name ^= SignerA- [i]":                 {1, 0},
		"name='über 100%'[i]":                  {2},
		"name*=%":                              {2},
		"name*=_":                              {3},
		`name*='\'`:                            {4},
		`name="o'neil"`:                        {5},
		"name like '%_%' and name like %score": {3},
		`name=""`:                              {},
		"name=null":                            {},
		"name!=last":                           {5, 4, 3, 2, 1, 0},
		"state=ACTIVE":                         {6},
		"state=RETIRED and generation >= 4":    {5, 4},
		"state in {ACTIVE, REVOKED}":           {6},
		"state=PENDING":                        {},
		"generation in {1, 3.0, 99}":           {3, 1},
		"generation > 4.5":                     {6, 5},
		"generation < 10":                      {6, 5, 4, 3, 2, 1, 0}, // by value, not by characters
		"id=" + signers[3].ID:                  {3},
		"id >= " + signers[5].ID:               {6, 5},
		"id='" + strings.ToLower(signers[3].ID) + "' [i]":                {3},
		"createdAt=" + quoted(signers[2].CreatedAt):                      {2}, // to the microsecond
		"createdAt>" + quoted(signers[4].CreatedAt):                      {6, 5},
		"createdAt>=" + quoted(start.Add(time.Hour)):                     {},
		"updatedAt>" + quoted(signers[6].CreatedAt):                      {6, 5}, // retired when the last was made
		"(name^=Sig && generation=0) or (name^='Ü' and state='RETIRED')": {2, 0},
		"name=last and generation=0 or generation=1":                     {1},
		"name=last and (generation=0 or generation=1)":                   {},
		"createdAt<2000-01-01":                                           {},
		"name='x'' or ''1''=''1'":                                        nil,
		"name=x; drop table ca_signer":                                   nil,
	} {
		list, total, err := a.ListSigners(ctx, alpha, ca.Page{Filter: text})
		if want == nil {
			require.ErrorIs(t, err, filter.ErrSyntax, text)
			continue
		}
		require.NoError(t, err, text)
		got := []int{}
		for _, s := range list {
			require.Equal(t, signers[s.Generation].ID, s.ID, "%s: a row of another tenant", text)
			got = append(got, s.Generation)
		}
		require.Equal(t, want, got, text)
		require.Equal(t, len(want), total, text)
	}

	// Pages of a filtered list, and its size from each of them.
	for number, want := range map[int][]int{1: {5, 4, 3, 2, 1}, 2: {0}, 3: {}, 1 << 30: {}} {
		list, total, err := a.ListSigners(ctx, alpha, ca.Page{Number: number, Size: 5, Filter: "state=RETIRED"})
		require.NoError(t, err)
		require.Equal(t, 6, total, "page %d", number)
		got := []int{}
		for _, s := range list {
			got = append(got, s.Generation)
		}
		require.Equal(t, want, got, "page %d", number)
	}
	_, _, err = a.ListSigners(ctx, alpha, ca.Page{Filter: "serial=1"})
	require.ErrorIs(t, err, filter.ErrProperty)
	require.Equal(t, "filter", fault.Of(err).Violations[0].Field)
	_, _, err = a.ListSigners(ctx, alpha, ca.Page{Filter: "name=a", Size: 4})
	require.ErrorIs(t, err, ca.ErrRequest)
}

func TestCA12_ListCertificates(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	list, total, err := a.ListCertificates(ctx, alpha, ca.Page{})
	require.NoError(t, err)
	require.Zero(t, total)
	require.Empty(t, list)

	signer, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	clientOf := func(i int) string { return fmt.Sprintf("01J000000000000000000000%02d", i) }
	var refs []string
	for i := range 6 {
		r := order(t)
		r.User, r.Client = fmt.Sprintf("user %d", i%2), clientOf(i)
		c, err := a.IssueDevice(ctx, alpha, r)
		require.NoError(t, err)
		refs = append(refs, c.Ref)
	}
	_, err = a.CreateSigner(ctx, beta, ca.CreateSigner{})
	require.NoError(t, err)
	foreign, err := a.IssueDevice(ctx, beta, order(t))
	require.NoError(t, err)
	// One of each state that no call here makes.
	b.exec(t, `update ca_certificate set status = 'REQUESTED', certificate = null, issued_at = null where cert_ref = $1`, refs[0])
	b.exec(t, `update ca_certificate set status = 'FAILED', certificate = null, issued_at = null where cert_ref = $1`, refs[1])
	b.exec(t, `update ca_certificate set not_after = $2 where cert_ref = $1`, refs[2], time.Now().Add(-2*time.Second).Truncate(time.Second))

	device := func(i int, status ca.CertificateStatus) ca.CertificateInfo {
		return ca.CertificateInfo{Ref: refs[i], Status: status, Signer: signer.ID, User: fmt.Sprintf("user %d", i%2), Client: clientOf(i), Profile: "AST_DEVICE"}
	}
	all := []ca.CertificateInfo{
		device(5, ca.StatusIssued), device(4, ca.StatusIssued), device(3, ca.StatusIssued), device(2, ca.StatusExpired), device(1, ca.StatusFailed), device(0, ca.StatusRequested),
		{Ref: signer.ID, Status: ca.StatusIssued, Profile: "SIGNER"},
	}
	list, total, err = a.ListCertificates(ctx, alpha, ca.Page{})
	require.NoError(t, err)
	require.Equal(t, len(all), total)
	for i := range list {
		require.WithinDuration(t, time.Now(), list[i].RequestedAt, time.Minute)
		require.Equal(t, list[i].Status == ca.StatusIssued || list[i].Status == ca.StatusExpired, !list[i].IssuedAt.IsZero())
		list[i].RequestedAt, list[i].IssuedAt = time.Time{}, time.Time{}
	}
	require.ElementsMatch(t, all, list) // made within one millisecond, ids are in no order

	for text, want := range map[string][]string{
		"profile in { AST_DEVICE, SIGNATURE } and user='user 0'": {refs[4], refs[2], refs[0]},
		"profile !in { AST_DEVICE, SIGNATURE }":                  {signer.ID},
		"user=null":                                              {signer.ID},
		"client=null or client=" + clientOf(3):                   {refs[3], signer.ID},
		"status=EXPIRED":                                         {refs[2]},
		"status=ISSUED":                                          {refs[5], refs[4], refs[3], signer.ID},
		"status in {REQUESTED, FAILED}":                          {refs[1], refs[0]},
		"status=REVOKED":                                         {},
		"status^=iss[i] and user!=null":                          {refs[5], refs[4], refs[3]},
		"certRef=" + refs[4]:                                     {refs[4]},
		"certRef=" + signer.ID:                                   {signer.ID},
		"certRef=" + foreign.Ref:                                 {},
		"user='user 1' and certRef!=" + refs[5]:                  {refs[3], refs[1]},
		"user='USER 1'[i]":                                       {refs[5], refs[3], refs[1]},
	} {
		list, total, err := a.ListCertificates(ctx, alpha, ca.Page{Filter: text})
		require.NoError(t, err, text)
		got := []string{}
		for _, c := range list {
			got = append(got, c.Ref)
		}
		require.ElementsMatch(t, want, got, text)
		require.Equal(t, len(want), total, text)
	}
	_, _, err = a.ListCertificates(ctx, alpha, ca.Page{Filter: "name=x"})
	require.ErrorIs(t, err, filter.ErrProperty)
	_, total, err = a.ListCertificates(ctx, alpha, ca.Page{Number: 2, Size: 5})
	require.NoError(t, err)
	require.Equal(t, 7, total)
	list, total, err = a.ListCertificates(ctx, alpha, ca.Page{Number: 3, Size: 5})
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, 7, total)
}

func TestCA13_CertificateInfo(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	signer, err := a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c, err := a.IssueDevice(ctx, alpha, order(t))
	require.NoError(t, err)

	got, err := a.CertificateInfo(ctx, alpha, signer.ID)
	require.NoError(t, err)
	require.Equal(t, ca.CertificateInfo{Ref: signer.ID, Status: ca.StatusIssued, Profile: "SIGNER", RequestedAt: got.RequestedAt, IssuedAt: got.IssuedAt}, got)
	got, err = a.CertificateInfo(ctx, alpha, c.Ref)
	require.NoError(t, err)
	require.Equal(t, ca.CertificateInfo{
		Ref: c.Ref, Status: ca.StatusIssued, Signer: signer.ID, User: "jane", Client: client, Profile: "AST_DEVICE", RequestedAt: got.RequestedAt, IssuedAt: got.IssuedAt,
	}, got)

	for name, ref := range map[string]string{
		"none": "", "current": ca.Current, "unknown": ulid.Make().String(), "lower case": strings.ToLower(c.Ref), "junk": "' or 1=1 --", "NUL": c.Ref[:25] + "\x00",
	} {
		_, err := a.CertificateInfo(ctx, alpha, ref)
		require.ErrorIs(t, err, ca.ErrNoCertificate, name)
	}
	_, err = a.CertificateInfo(ctx, beta, c.Ref)
	require.ErrorIs(t, err, ca.ErrNoCertificate, "of another tenant")

	// A signer that is renewed has a row for each request; its id is the newest.
	b.exec(t, `update ca_certificate set subject_signer_id = cert_ref where cert_ref = $1`, signer.ID)
	renewal := ulid.Make().String()
	b.exec(t, `insert into ca_certificate (tenant_id, cert_ref, serial, profile, profile_hash, issuer_key_id, status, spki_sha256, not_before, not_after,
    requested_at, subject_signer_id, sequence)
  select tenant_id, $2, decode('00112233445566778899aabbccddeeff', 'hex'), profile, profile_hash, issuer_key_id, 'REQUESTED', spki_sha256, not_before, not_after,
    requested_at + interval '1 second', cert_ref, 1
  from ca_certificate where cert_ref = $1`, signer.ID, renewal)
	got, err = a.CertificateInfo(ctx, alpha, signer.ID)
	require.NoError(t, err)
	require.Equal(t, signer.ID, got.Ref)
	require.Equal(t, ca.StatusRequested, got.Status)
	got, err = a.CertificateInfo(ctx, alpha, renewal)
	require.NoError(t, err)
	require.Equal(t, renewal, got.Ref)
	list, total, err := a.ListCertificates(ctx, alpha, ca.Page{Filter: "profile=SIGNER"})
	require.NoError(t, err)
	require.Equal(t, 1, total, "one entry per signer")
	require.Equal(t, signer.ID, list[0].Ref)
	require.Equal(t, ca.StatusRequested, list[0].Status)

	// Each serial is answered for by itself.
	old, err := a.CertificateBySerial(ctx, alpha, issuance.Serial(parse(t, signer.Certificate).SerialNumber.FillBytes(make([]byte, 16))))
	require.NoError(t, err)
	require.Equal(t, []any{signer.ID, ca.StatusIssued}, []any{old.Ref, old.Status})
	young, err := a.CertificateBySerial(ctx, alpha, issuance.Serial{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
	require.NoError(t, err)
	require.Equal(t, []any{renewal, ca.StatusRequested}, []any{young.Ref, young.Status})
	_, err = a.CertificateBySerial(ctx, alpha, issuance.Serial{1})
	require.ErrorIs(t, err, ca.ErrNoCertificate)
	_, err = a.CertificateBySerial(ctx, beta, c.Serial)
	require.ErrorIs(t, err, ca.ErrNoCertificate, "of another tenant")

	// With the signer its certificate goes, and its serials stay.
	b.exec(t, `update ca_signer set state = 'DELETED' where id = $1`, signer.ID)
	_, err = a.CertificateInfo(ctx, alpha, signer.ID)
	require.ErrorIs(t, err, ca.ErrNoCertificate)
	_, err = a.CertificateBySerial(ctx, alpha, issuance.Serial(parse(t, signer.Certificate).SerialNumber.FillBytes(make([]byte, 16))))
	require.NoError(t, err)
	_, total, err = a.ListCertificates(ctx, alpha, ca.Page{Filter: "profile=SIGNER"})
	require.NoError(t, err)
	require.Zero(t, total)
}

// The last second of a certificate is a good one.
func TestCA13_ExpiredAfterTheLastSecond(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	_, err := a.CreateSigner(t.Context(), alpha, ca.CreateSigner{})
	require.NoError(t, err)
	c, err := a.IssueDevice(t.Context(), alpha, order(t))
	require.NoError(t, err)
	for at, want := range map[time.Time]ca.CertificateStatus{
		c.NotAfter:                            ca.StatusIssued,
		c.NotAfter.Add(time.Second - 1):       ca.StatusIssued,
		c.NotAfter.Add(time.Second):           ca.StatusExpired,
		c.NotAfter.Add(100 * 24 * time.Hour):  ca.StatusExpired,
		c.NotAfter.Add(-100 * 24 * time.Hour): ca.StatusIssued,
	} {
		now := time.Now
		late := b.authority(t, func(c *ca.Config) { c.Now = func() time.Time { return now() } })
		now = func() time.Time { return at }
		got, err := late.CertificateInfo(t.Context(), alpha, c.Ref)
		require.NoError(t, err)
		require.Equal(t, want, got.Status, at)
	}
}

func TestListsOnAnOutage(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	b.db.Close()
	for _, text := range []string{"", "name=a", "status=a"} {
		_, _, err := a.ListSigners(t.Context(), alpha, ca.Page{Filter: text})
		if !errors.Is(err, filter.ErrProperty) {
			require.Equal(t, fault.Unavailable, fault.KindOf(err), text)
		}
		_, _, err = a.ListCertificates(t.Context(), alpha, ca.Page{Filter: text})
		if !errors.Is(err, filter.ErrProperty) {
			require.Equal(t, fault.Unavailable, fault.KindOf(err), text)
		}
	}
	_, err := a.CertificateInfo(t.Context(), alpha, ulid.Make().String())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

func (b *bench) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	tag, err := b.db.Exec(tb.Context(), sql, args...)
	require.NoError(tb, err)
	require.EqualValues(tb, 1, tag.RowsAffected())
}
