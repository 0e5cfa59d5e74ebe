package powerauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Registrations is the part of *registration.Registrar that the dialect calls.
type Registrations interface {
	Create(ctx context.Context, t tenant.ID, p registration.CreateParams) (registration.Created, error)
	Commit(ctx context.Context, t tenant.ID, p registration.CommitParams) error
	Get(ctx context.Context, t tenant.ID, apps []string, id string) (registration.Registration, error)
	List(ctx context.Context, t tenant.ID, apps []string, user string) ([]registration.Registration, error)
	Change(ctx context.Context, t tenant.ID, p registration.ChangeParams) error
	AddFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
	SetFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
	RemoveFlags(ctx context.Context, t tenant.ID, p registration.FlagParams) error
	Verify(ctx context.Context, t tenant.ID, r registration.VerifyRequest) (registration.Verdict, error)

	Activate(ctx context.Context, r registration.ActivateRequest) (signature.EncryptedResponse, error)
	Status(ctx context.Context, id string, challenge *[16]byte) (registration.StatusAnswer, error)
	TemporaryKey(ctx context.Context, request string) (string, error)
	RemoveDevice(ctx context.Context, r registration.SignedRequest) (id string, err error)
	Rename(ctx context.Context, r registration.SignedRequest) (signature.EncryptedResponse, error)
	VaultUnlock(ctx context.Context, r registration.SignedRequest) (signature.EncryptedResponse, error)
	ValidateSignature(ctx context.Context, r registration.SignedRequest) error
	ServerTime() int64
	VerifyDevice(ctx context.Context, r registration.SignedRequest, uriID string) (tenant.ID, registration.Verdict, error)
	Authenticate(ctx context.Context, r registration.SignedRequest, uriID string, allowed ...signature.Factor) (registration.Caller, error)
}

// Authenticator checks HTTP Basic credentials; *access.Basic.
type Authenticator interface {
	Authenticate(ctx context.Context, username, password string) (access.Principal, error)
}

// Config makes an API. Registrations and Basic are needed; of the other domains
// each that is nil has its routes not mounted.
type Config struct {
	Registrations Registrations
	Basic         Authenticator

	Applications Applications
	ServiceURL   string // where phones find /pa/v3, told with an application; needed with Applications
	Users        Users  // makes integration users; with Applications
	Audit        Audit
	Operations   Operations
	Tokens       Tokens // with Applications and Operations, phones decide online (/api/auth/token/app)
	Push         Push   // with Tokens, phones tell where pushes go (/api/push) and read their inbox (/api/inbox)
	Callbacks    Callbacks

	// TrustedProxies are believed when they say where a phone's request came from.
	TrustedProxies []netip.Prefix

	Limiter *access.Limiter // of the calls at work of each credential; nil: no bound
	Timeout time.Duration   // of a request; 0: 10 s

	BasePath string // of the application tiers' routes, "" or "/powerauth-cloud"
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
}

// API is the three tables of routes.
type API struct {
	cloud, device, mobile *rest.API
}

type handlers struct {
	registrations Registrations
	applications  Applications
	serviceURL    string
	users         Users
	audit         Audit
	operations    Operations
	tokens        Tokens
	push          Push
	callbacks     Callbacks
}

// New checks the tables.
func New(c Config) (*API, error) {
	if c.Registrations == nil || c.Basic == nil {
		return nil, errors.New("powerauth: registrations or credentials are missing")
	}
	if c.BasePath != "" && (!strings.HasPrefix(c.BasePath, "/") || strings.HasSuffix(c.BasePath, "/")) {
		return nil, errors.New("powerauth: base path must be like /powerauth-cloud")
	}
	if c.Applications != nil {
		if u, err := url.Parse(c.ServiceURL); err != nil || u.Host == "" {
			return nil, errors.New("powerauth: the service URL must be absolute")
		}
	}
	h := &handlers{
		registrations: c.Registrations, applications: c.Applications, serviceURL: c.ServiceURL, users: c.Users,
		audit: c.Audit, operations: c.Operations, tokens: c.Tokens, push: c.Push, callbacks: c.Callbacks,
	}
	cloud, err := rest.New(rest.Config{
		Dialect:  rest.Dialect{Name: "powerauth", Authenticate: basic(c.Basic), Problem: cloudProblem},
		Routes:   cloudRoutes(c.BasePath, h),
		Prefixes: []string{c.BasePath}, // the root: this dialect answers what nobody else does
		Limiter:  c.Limiter, Timeout: c.Timeout, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	device, err := rest.New(rest.Config{
		Dialect:  rest.Dialect{Name: "powerauth-device", Authenticate: basic(c.Basic), Problem: deviceProblem},
		Routes:   deviceRoutes(h),
		Prefixes: []string{"/pa"},
		Limiter:  c.Limiter, Timeout: c.Timeout, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	mobile, err := rest.New(rest.Config{
		Dialect:  rest.Dialect{Name: "powerauth-mobile", Authenticate: basic(c.Basic), Problem: mobileProblem},
		Routes:   mobileRoutes(h),
		Prefixes: []string{"/api"},
		Proxies:  c.TrustedProxies,
		Limiter:  c.Limiter, Timeout: c.Timeout, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	return &API{cloud, device, mobile}, nil
}

// Mount registers the routes, and "/" (or the base path) for unknown URLs.
func (a *API) Mount(mux *http.ServeMux) {
	a.cloud.Mount(mux)
	a.device.Mount(mux)
	a.mobile.Mount(mux)
}

// maxVerifyBody leaves room for what a device signed, in Base64.
const maxVerifyBody = 256 << 10

func cloudRoutes(base string, h *handlers) []rest.Route {
	integration := access.Any(access.PAIntegration)
	routes := []rest.Route{
		{ID: "PA-REG-01", Method: "POST", Pattern: "/v2/registrations", Allow: integration, Handler: h.createRegistration},
		{ID: "PA-REG-02", Method: "POST", Pattern: "/v2/registrations/{registrationId}/commit", Allow: integration, Handler: h.commitRegistration},
		{ID: "PA-REG-03", Method: "GET", Pattern: "/v2/registrations/{registrationId}", Allow: integration, Handler: h.getRegistration},
		{ID: "PA-REG-04", Method: "GET", Pattern: "/v2/registrations", Allow: integration, Handler: h.listRegistrations},
		{ID: "PA-REG-05", Method: "PUT", Pattern: "/v2/registrations/{registrationId}", Allow: integration, Handler: h.changeRegistration},
		{ID: "PA-REG-06", Method: "DELETE", Pattern: "/v2/registrations/{registrationId}", Allow: integration, Handler: h.removeRegistration},
		{ID: "PA-REG-07", Method: "POST", Pattern: "/v2/registrations/{registrationId}/flags", Allow: integration, Handler: h.addFlags},
		{ID: "PA-REG-08", Method: "PUT", Pattern: "/v2/registrations/{registrationId}/flags", Allow: integration, Handler: h.setFlags},
		{ID: "PA-REG-09", Method: "POST", Pattern: "/v2/registrations/{registrationId}/flags/remove", Allow: integration, Handler: h.removeFlags},
		{ID: "PA-AUTH-01", Method: "POST", Pattern: "/v2/signature/verify", Allow: integration, MaxBody: maxVerifyBody, Handler: h.verifySignature},
	}
	if h.operations != nil {
		routes = append(routes, operationRoutes(h)...)
	}
	if h.applications != nil {
		routes = append(routes, adminRoutes(h)...)
	}
	if h.tokens != nil {
		routes = append(routes, rest.Route{ID: "PA-AUTH-02", Method: "POST", Pattern: "/v2/token/verify", Allow: integration, Handler: h.verifyToken})
	}
	if h.push != nil {
		admin := access.Any(access.PAAdmin)
		routes = append(routes, []rest.Route{
			{ID: "PA-PUSH-01", Method: "POST", Pattern: "/v2/messages/send", Allow: integration, Handler: h.sendMessage},
			{ID: "PA-X-03", Method: "POST", Pattern: "/admin/applications/{appId}/push/apns", Allow: admin, Handler: h.configureAPNs},
			{ID: "PA-X-04", Method: "POST", Pattern: "/admin/applications/{appId}/push/fcm", Allow: admin, Handler: h.configureFCM},
			{ID: "PA-X-12", Method: "POST", Pattern: "/admin/applications/{appId}/push/hms", Allow: admin, Handler: h.configureHMS},
			{ID: "PA-X-10", Method: "POST", Pattern: "/v2/inbox/messages", Allow: integration, MaxBody: maxLetter, Handler: h.postInbox},
			{ID: "PA-X-11", Method: "GET", Pattern: "/v2/inbox/messages", Allow: integration, Handler: h.listInbox},
		}...)
	}
	if h.callbacks != nil {
		const base = "/v2/admin/applications/{appId}/callbacks"
		routes = append(routes, []rest.Route{
			{ID: "PA-X-05", Method: "POST", Pattern: base, Allow: integration, Handler: h.createCallback},
			{ID: "PA-X-13", Method: "GET", Pattern: base, Allow: integration, Handler: h.listCallbacks},
			{ID: "PA-X-14", Method: "DELETE", Pattern: base + "/{callbackId}", Allow: integration, Handler: h.removeCallback},
			{ID: "PA-X-15", Method: "POST", Pattern: base + "/{callbackId}/secret", Allow: integration, Handler: h.rotateCallback},
		}...)
	}
	if h.audit != nil {
		routes = append(routes, rest.Route{ID: "PA-AUD-01", Method: "GET", Pattern: "/audit/log", Allow: integration, Handler: h.getAuditLog})
	}
	for i := range routes {
		routes[i].Pattern = base + routes[i].Pattern
	}
	return routes
}

func operationRoutes(h *handlers) []rest.Route {
	integration, admin := access.Any(access.PAIntegration), access.Any(access.PAAdmin)
	return []rest.Route{
		{ID: "PA-OP-01", Method: "POST", Pattern: "/v2/operations", Allow: integration, Handler: h.createOperation},
		{ID: "PA-OP-02", Method: "GET", Pattern: "/v2/operations/{operationId}", Allow: integration, Handler: h.getOperation},
		{ID: "PA-OP-03", Method: "DELETE", Pattern: "/v2/operations/{operationId}", Allow: integration, Handler: h.cancelOperation},
		{ID: "PA-OP-04", Method: "GET", Pattern: "/v2/operations/{operationId}/offline/qr", Allow: integration, Handler: h.getOperationQR},
		{ID: "PA-X-20", Method: "GET", Pattern: "/v2/operations/{operationId}/offline/qr/non-personalized", Allow: integration, Handler: h.getNonPersonalizedQR},
		{ID: "PA-OP-05", Method: "POST", Pattern: "/v2/operations/{operationId}/offline/otp", Allow: integration, Handler: h.verifyOTP},
		{ID: "PA-INT-01", Method: "POST", Pattern: "/internal/callback/operation", Allow: access.Any(access.PAInternal), Handler: h.operationCallback},
		{ID: "PA-X-06", Method: "POST", Pattern: "/admin/templates", Allow: admin, Handler: h.createTemplate},
		{ID: "PA-X-07", Method: "GET", Pattern: "/admin/templates", Allow: admin, Handler: h.listTemplates},
		{ID: "PA-X-08", Method: "PUT", Pattern: "/admin/templates/{templateName}", Allow: admin, Handler: h.updateTemplate},
		{ID: "PA-X-09", Method: "DELETE", Pattern: "/admin/templates/{templateName}", Allow: admin, Handler: h.deleteTemplate},
	}
}

func adminRoutes(h *handlers) []rest.Route {
	admin := access.Any(access.PAAdmin)
	routes := []rest.Route{
		{ID: "PA-ADM-01", Method: "POST", Pattern: "/admin/applications", Allow: admin, Handler: h.createApplication},
		{ID: "PA-ADM-02", Method: "GET", Pattern: "/admin/applications", Allow: admin, Handler: h.listApplications},
		{ID: "PA-ADM-03", Method: "GET", Pattern: "/admin/applications/detail", Allow: admin, Handler: h.getApplication},
		{ID: "PA-ADM-04", Method: "POST", Pattern: "/admin/applications/roles", Allow: admin, Handler: h.addRoles},
		{ID: "PA-ADM-05", Method: "DELETE", Pattern: "/admin/applications/roles", Allow: admin, Handler: h.removeRoles},
		{ID: "PA-X-16", Method: "GET", Pattern: "/admin/applications/{appId}/versions", Allow: admin, Handler: h.listVersions},
		{ID: "PA-X-17", Method: "POST", Pattern: "/admin/applications/{appId}/versions", Allow: admin, Handler: h.createVersion},
		{ID: "PA-X-18", Method: "PUT", Pattern: "/admin/applications/{appId}/versions/{version}", Allow: admin, Handler: h.changeVersion},
		{ID: "PA-X-19", Method: "POST", Pattern: "/admin/applications/{appId}/master-key", Allow: admin, Handler: h.rotateMaster},
	}
	if h.users != nil {
		routes = append(routes, []rest.Route{
			{ID: "PA-X-01", Method: "POST", Pattern: "/admin/users", Allow: admin, Handler: h.createUser},
			{ID: "PA-X-02", Method: "POST", Pattern: "/admin/users/{username}/applications/{appId}", Allow: admin, Handler: h.grantApplication},
		}...)
	}
	return routes
}

func deviceRoutes(h *handlers) []rest.Route {
	public := access.Any(access.Public)
	routes := []rest.Route{
		{ID: "PA-V3-ACTIVATION-CREATE", Method: "POST", Pattern: "/pa/v3/activation/create", Allow: public, Handler: h.activate},
		{ID: "PA-V3-ACTIVATION-STATUS", Method: "POST", Pattern: "/pa/v3/activation/status", Allow: public, Handler: h.deviceStatus},
		{ID: "PA-V3-ACTIVATION-REMOVE", Method: "POST", Pattern: "/pa/v3/activation/remove", Allow: public, Handler: h.removeDevice},
		{ID: "PA-V3-ACTIVATION-RENAME", Method: "POST", Pattern: "/pa/v3/activation/rename", Allow: public, Handler: h.renameDevice},
		{ID: "PA-V3-KEYSTORE-CREATE", Method: "POST", Pattern: "/pa/v3/keystore/create", Allow: public, Handler: h.temporaryKey},
		{ID: "PA-V3-VAULT-UNLOCK", Method: "POST", Pattern: "/pa/v3/vault/unlock", Allow: public, Handler: h.unlockVault},
		{ID: "PA-V3-STATUS", Method: "POST", Pattern: "/pa/v3/status", Allow: public, Handler: h.serverStatus},
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete} {
		id := "PA-V3-SIGNATURE-VALIDATE"
		if method != http.MethodPost {
			id += "-" + method
		}
		routes = append(routes, rest.Route{ID: id, Method: method, Pattern: "/pa/v3/signature/validate", Allow: public, Handler: h.validateSignature(method)})
	}
	if h.tokens != nil {
		routes = append(routes, []rest.Route{
			{ID: "PA-V3-TOKEN-CREATE", Method: "POST", Pattern: "/pa/v3/token/create", Allow: public, Handler: h.createToken},
			{ID: "PA-V3-TOKEN-REMOVE", Method: "POST", Pattern: "/pa/v3/token/remove", Allow: public, Handler: h.removeToken},
		}...)
	}
	return routes
}

// mobileRoutes is the mobile token API: public to the guard, as each handler
// checks a token or a signature itself.
func mobileRoutes(h *handlers) []rest.Route {
	const base = "/api/auth/token/app/operation"
	public := access.Any(access.Public)
	var routes []rest.Route
	if h.tokens != nil && h.applications != nil && h.operations != nil {
		routes = []rest.Route{
			{ID: "PA-MOBILE-LIST", Method: "POST", Pattern: base + "/list", Allow: public, Handler: h.listMobile},
			{ID: "PA-MOBILE-DETAIL", Method: "POST", Pattern: base + "/detail", Allow: public, Handler: h.detailMobile},
			{ID: "PA-MOBILE-HISTORY", Method: "POST", Pattern: base + "/history", Allow: public, Handler: h.historyMobile},
			{ID: "PA-MOBILE-AUTHORIZE", Method: "POST", Pattern: base + "/authorize", Allow: public, Handler: h.authorizeMobile},
			{ID: "PA-MOBILE-CANCEL", Method: "POST", Pattern: base + "/cancel", Allow: public, Handler: h.cancelMobile},
		}
	}
	if h.tokens != nil && h.push != nil {
		routes = append(routes, []rest.Route{
			{ID: "PA-MOBILE-PUSH", Method: "POST", Pattern: "/api/push/device/register", Allow: public, Handler: h.registerPush},
			{ID: "PA-MOBILE-PUSH-TOKEN", Method: "POST", Pattern: "/api/push/device/register/token", Allow: public, Handler: h.registerPushByToken},
			{ID: "PA-MOBILE-INBOX-COUNT", Method: "POST", Pattern: "/api/inbox/count", Allow: public, Handler: h.countInbox},
			{ID: "PA-MOBILE-INBOX-LIST", Method: "POST", Pattern: "/api/inbox/message/list", Allow: public, Handler: h.listMobileInbox},
			{ID: "PA-MOBILE-INBOX-DETAIL", Method: "POST", Pattern: "/api/inbox/message/detail", Allow: public, Handler: h.detailMobileInbox},
			{ID: "PA-MOBILE-INBOX-READ", Method: "POST", Pattern: "/api/inbox/message/read", Allow: public, Handler: h.readMobileInbox},
			{ID: "PA-MOBILE-INBOX-READ-ALL", Method: "POST", Pattern: "/api/inbox/message/read-all", Allow: public, Handler: h.readAllMobileInbox},
		}...)
	}
	return routes
}

func basic(a Authenticator) func(context.Context, *http.Request) (access.Principal, error) {
	return func(ctx context.Context, r *http.Request) (access.Principal, error) {
		user, password, ok := rest.AuthorizationOf(r.Header).Basic()
		if !ok {
			return access.Principal{}, access.ErrUnauthenticated
		}
		return a.Authenticate(ctx, user, password)
	}
}
