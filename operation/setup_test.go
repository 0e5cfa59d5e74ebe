package operation_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha = tenant.MustParse("alpha")
	beta  = tenant.MustParse("beta")
	mine  = []string{"APP"}
	all   = []string{"APP", "OTHER"}
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is one database, one token, the applications APP and OTHER in alpha and
// their twins in beta, and a clock that a test may turn.
type world struct {
	tb       testing.TB
	db       *pgxpool.Pool
	envelope *envelope.Keyring
	apps     *app.Registry
	audit    *audit.Log
	devices  *registration.Registrar
	ops      *operation.Ledger
	outbox   *outbox.Outbox
	version  map[string]app.Version // by tenant/app
	master   map[string][]byte
	align    time.Duration
	skew     atomic.Int64
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ctx := tb.Context()
	// Early in a step of the proximity check, so that a test stays inside it.
	align := 2*time.Second - time.Duration(time.Now().UnixNano())%(30*time.Second)
	w := &world{tb: tb, align: align, version: map[string]app.Version{}, master: map[string][]byte{}}
	var err error
	w.db, err = pg.Open(ctx, pgtest.URL(tb), pg.Options{MaxConns: 10})
	require.NoError(tb, err)
	tb.Cleanup(w.db.Close)
	token := softhsmtest.New(tb)
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err = token.Generate(ctx, ref, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	kek, err := token.AEAD(ctx, ref)
	require.NoError(tb, err)
	w.envelope = envelope.New(w.db, kek, envelope.Options{})
	w.audit, err = audit.New(audit.Config{DB: w.db})
	require.NoError(tb, err)
	w.outbox, err = outbox.New(outbox.Config{DB: w.db})
	require.NoError(tb, err)
	w.apps, err = app.New(app.Config{DB: w.db, HSM: token, Envelope: w.envelope, Audit: w.audit, Now: w.now})
	require.NoError(tb, err)
	for _, t := range []tenant.ID{alpha, beta} {
		for _, id := range all {
			a, v, err := w.apps.Create(ctx, t, app.CreateParams{ID: id, Roles: []string{"ROLE"}})
			require.NoError(tb, err)
			w.version[t.String()+"/"+id], w.master[t.String()+"/"+id] = v, a.MasterPublic
		}
	}
	w.devices, err = registration.New(registration.Config{
		DB: w.db, Apps: w.apps, Envelope: w.envelope, Audit: w.audit, Outbox: w.outbox, Now: w.now,
	})
	require.NoError(tb, err)
	w.ops = w.node()
	return w
}

func (w *world) now() time.Time { return time.Now().Add(w.align + time.Duration(w.skew.Load())) }

// node is another process.
func (w *world) node(change ...func(*operation.Config)) *operation.Ledger {
	w.tb.Helper()
	c := operation.Config{
		DB: w.db, Devices: w.devices, Apps: w.apps, Envelope: w.envelope, Audit: w.audit, Outbox: w.outbox, Now: w.now,
	}
	for _, f := range change {
		f(&c)
	}
	l, err := operation.New(c)
	require.NoError(w.tb, err)
	return l
}

// payment is a template with everything but a proximity check.
func payment() operation.Template {
	return operation.Template{
		Name: "payment", Type: "authorize_payment", Data: "A1*A${amount}${currency}*Q${account}**D20261130*N${note}",
		Types:     []signature.Factor{signature.PossessionKnowledge, signature.PossessionBiometry},
		RiskFlags: "XF", MaxFailures: 3, Lifetime: 10 * time.Minute,
		Texts: map[string]operation.Text{
			"en": {Title: "Payment", Message: "Pay ${amount} ${currency}?"},
			"cs": {Title: "Platba", Message: "Zaplatit ${amount} ${currency}?", Labels: map[string]string{"operation.amount": "Částka"}},
		},
	}
}

func (w *world) template(t tenant.ID, tpl operation.Template) operation.Template {
	w.tb.Helper()
	tpl, err := w.ops.CreateTemplate(w.tb.Context(), t, tpl, "admin")
	require.NoError(w.tb, err)
	return tpl
}

func createParams(user string) operation.CreateParams {
	return operation.CreateParams{
		Apps: all, UserID: user, Template: "payment", Actor: "backend", ExternalID: "ext-1",
		Parameters: map[string]string{"amount": "63.99", "currency": "EUR", "account": "238400856/0300", "note": "a*b\nc"},
	}
}

const paymentData = `A1*A63.99EUR*Q238400856/0300**D20261130*Na\*b\nc`

func (w *world) create(t tenant.ID, user string, change ...func(*operation.CreateParams)) operation.Operation {
	w.tb.Helper()
	p := createParams(user)
	for _, f := range change {
		f(&p)
	}
	op, err := w.ops.Create(w.tb.Context(), t, p)
	require.NoError(w.tb, err)
	return op
}

func (w *world) get(t tenant.ID, id string) operation.Operation {
	w.tb.Helper()
	op, err := w.ops.Get(w.tb.Context(), t, all, id)
	require.NoError(w.tb, err)
	return op
}

// told is an event as it lies in the outbox.
type told struct {
	Kind      outbox.Kind    `json:"kind"`
	Tenant    string         `json:"tenant"`
	App       string         `json:"app"`
	User      string         `json:"user"`
	Operation string         `json:"operation"`
	Data      map[string]any `json:"data"`
}

// told lists the events of an operation, oldest first.
func (w *world) told(id string) (out []told) {
	w.tb.Helper()
	rows, err := w.db.Query(w.tb.Context(), `select args->'event' from river_job where args->'event'->>'operation' = $1 order by id`, id)
	require.NoError(w.tb, err)
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		require.NoError(w.tb, rows.Scan(&raw))
		var e told
		require.NoError(w.tb, json.Unmarshal(raw, &e))
		out = append(out, e)
	}
	require.NoError(w.tb, rows.Err())
	return out
}

// results are what the finishing events of an operation say.
func (w *world) results(id string) (out []string) {
	w.tb.Helper()
	for _, e := range w.told(id) {
		if e.Kind == outbox.OperationFinished {
			out = append(out, e.Data["result"].(string))
		}
	}
	return out
}

// outcomes counts the audit events of an operation by action and outcome.
func (w *world) outcomes(t tenant.ID, id string) map[string]int {
	w.tb.Helper()
	n := map[string]int{}
	list, err := w.audit.List(w.tb.Context(), t, audit.Filter{Limit: audit.MaxLimit})
	require.NoError(w.tb, err)
	for _, e := range list {
		if e.Subject == id {
			n[strings.TrimPrefix(e.Action, "operation.")+"/"+e.Outcome]++
		}
	}
	return n
}

// address is what the audit log has of where alpha's operation was decided from.
func (w *world) address(action, id string) (at any) {
	w.tb.Helper()
	list, err := w.audit.List(w.tb.Context(), alpha, audit.Filter{Limit: audit.MaxLimit})
	require.NoError(w.tb, err)
	for _, e := range list {
		if e.Subject == id && e.Action == action {
			at = e.Detail["address"]
		}
	}
	return at
}

// phone is the least that a device does, on the shared kernel.
type phone struct {
	w      *world
	tenant tenant.ID
	app    string
	user   string
	flags  []string
	id     string
	server *ecdh.PublicKey
	keys   *signature.Keys
	ctr    signature.Counter
}

// active makes a device whose registration is ACTIVE.
func (w *world) active(t tenant.ID, appID, user string, flags ...string) *phone {
	w.tb.Helper()
	ctx := w.tb.Context()
	p := &phone{w: w, tenant: t, app: appID, user: user, flags: flags}
	c, err := w.devices.Create(ctx, t, registration.CreateParams{Apps: all, App: appID, UserID: user, Flags: flags})
	require.NoError(w.tb, err)
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(w.tb, err)

	inner, openInner := p.seal(signature.InfoLayer2, map[string]any{
		"devicePublicKey": signature.EncodeBase64(private.PublicKey().Bytes()), "activationName": "phone", "platform": "ios",
	})
	outer, openOuter := p.seal(signature.InfoApplication, map[string]any{
		"activationType": "CODE", "identityAttributes": map[string]string{"code": c.ActivationCode}, "activationData": inner,
	})
	resp, err := w.devices.Activate(ctx, registration.ActivateRequest{
		Header:  signature.EncryptionHeader{ApplicationKey: w.version[t.String()+"/"+appID].Key, Version: signature.V32},
		Message: outer,
	})
	require.NoError(w.tb, err)
	var o struct {
		ActivationData signature.EncryptedResponse `json:"activationData"`
	}
	p.open(openOuter, resp, &o)
	var i struct{ ActivationID, ServerPublicKey, CtrData string }
	p.open(openInner, o.ActivationData, &i)
	raw, err := signature.ParseBase64(i.ServerPublicKey)
	require.NoError(w.tb, err)
	p.server, err = signature.ParsePublicKey(raw)
	require.NoError(w.tb, err)
	x, err := private.ECDH(p.server)
	require.NoError(w.tb, err)
	p.keys = signature.DeriveKeys(signature.MasterSecret(x))
	ctr, err := signature.ParseBase64(i.CtrData)
	require.NoError(w.tb, err)
	p.ctr, p.id = signature.Counter(ctr), i.ActivationID
	require.NoError(w.tb, w.devices.Commit(ctx, t, registration.CommitParams{Apps: all, ID: p.id}))
	return p
}

func (p *phone) seal(info string, plaintext any) (signature.EncryptedRequest, *signature.Requester) {
	tb, key := p.w.tb, p.tenant.String()+"/"+p.app
	text, err := json.Marshal(plaintext)
	require.NoError(tb, err)
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	master, err := signature.ParsePublicKey(p.w.master[key])
	require.NoError(tb, err)
	v := p.w.version[key]
	stamp := signature.Stamp{Timestamp: p.w.now().UnixMilli()}
	_, _ = rand.Read(stamp.Nonce[:])
	m, r, err := signature.SealRequest(ephemeral, master, signature.EnvelopeParams{
		Version: signature.V32, Scope: signature.ApplicationScope, SharedInfo1: info,
		ApplicationKey: v.Key, SharedInfo2: signature.ApplicationSharedInfo2(v.Secret.Reveal()),
	}, text, stamp)
	require.NoError(tb, err)
	return m, r
}

func (p *phone) open(r *signature.Requester, m signature.EncryptedResponse, into any) {
	text, err := r.Open(m)
	require.NoError(p.w.tb, err)
	require.NoError(p.w.tb, json.Unmarshal(text, into))
}

// device is what the API makes of a verified signature.
func (p *phone) device() operation.Device {
	return operation.Device{Registration: p.id, UserID: p.user, App: p.app, Flags: p.flags, Address: "192.0.2.1", Agent: "phone/1"}
}

// approve authorizes as after a good signature.
func (p *phone) approve(ctx context.Context, l *operation.Ledger, op operation.Operation) error {
	return l.Authorize(ctx, p.tenant, p.device(), operation.Approval{
		ID: op.ID, Data: op.Data, Factors: signature.PossessionKnowledge,
	})
}

// scan computes the digits for a QR code, from its text alone.
func (p *phone) scan(qr operation.QR, f signature.Factor) string {
	lines := strings.Split(qr.Data, "\n")
	body := lines[0] + "&" + lines[3]
	if len(lines) == 8 {
		body += "&" + lines[5]
	}
	nonce, err := signature.ParseBase64(lines[len(lines)-2])
	require.NoError(p.w.tb, err)
	sig, err := p.keys.SignOffline(8, f, signature.Request{
		Method: "POST", URIID: operation.OfflineURI, Nonce: nonce, Body: []byte(body), Secret: []byte(signature.OfflineSecret),
	}, p.ctr)
	require.NoError(p.w.tb, err)
	p.ctr = p.ctr.Next()
	return sig.String()
}

func (p *phone) qr(op operation.Operation) operation.QR {
	p.w.tb.Helper()
	qr, err := p.w.ops.OfflineQR(p.w.tb.Context(), p.tenant, operation.QRParams{Apps: all, ID: op.ID, Registration: p.id})
	require.NoError(p.w.tb, err)
	return qr
}

func (p *phone) otp(op operation.Operation, qr operation.QR, digits string) operation.OTPParams {
	return operation.OTPParams{Apps: all, ID: op.ID, OTP: digits, Nonce: qr.Nonce, Registration: p.id, Actor: "backend"}
}
