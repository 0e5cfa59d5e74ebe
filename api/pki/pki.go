package pki

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
)

// Source is *revocation.Publisher.
type Source interface {
	CRL(ctx context.Context, issuer revocation.KeyID, shard int) (revocation.Document, error)
	OCSP(ctx context.Context, issuer revocation.KeyID, request []byte) (revocation.Document, error)
	IssuerCertificate(ctx context.Context, issuer revocation.KeyID) (revocation.Document, error)
	CRLSigner(ctx context.Context, issuer revocation.KeyID) (revocation.Document, error)
}

// Config makes a handler. Source is required.
type Config struct {
	Source Source
	// MaxAge is the longest that a cache may keep an answer without asking again;
	// 0 = until its nextUpdate.
	MaxAge  time.Duration
	Timeout time.Duration         // of one request; 0 = 10 s
	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

const (
	maxBody = 8 << 10
	maxPath = 2 << 10
	retry   = "5" // seconds
)

type handler struct {
	c        Config
	requests *prometheus.CounterVec // by what, code
}

// New makes the handler of the public listener.
func New(c Config) (http.Handler, error) {
	if c.Source == nil || c.MaxAge < 0 || c.Timeout < 0 {
		return nil, errors.New("pki: Source is required, and durations must not be negative")
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{c: c, requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_pki_requests_total", Help: "Requests to the public listener by what was asked for and the status code.",
	}, []string{"what", "code"})}
	if c.Metrics != nil {
		if err := c.Metrics.Register(h.requests); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// ServeHTTP implements http.Handler. It is no http.ServeMux: that cleans paths,
// and base64 may hold "//".
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.c.Timeout)
	defer cancel()
	r = r.WithContext(ctx)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	path := r.URL.EscapedPath()
	what, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	counted := &statusWriter{ResponseWriter: w, code: http.StatusOK}
	switch {
	case len(path) > maxPath:
		what = "other"
		counted.WriteHeader(http.StatusRequestURITooLong)
	case what == "crl":
		h.crl(counted, r, rest)
	case what == "ocsp":
		h.ocsp(counted, r, rest)
	case what == "ca":
		h.certificate(counted, r, rest)
	default:
		what = "other"
		h.empty(counted, http.StatusNotFound)
	}
	h.requests.WithLabelValues(what, strconv.Itoa(counted.code)).Inc()
}

func (h *handler) crl(w http.ResponseWriter, r *http.Request, rest string) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	issuer, file, _ := strings.Cut(rest, "/")
	id, ok := revocation.ParseKeyID(issuer)
	digits, named := strings.CutSuffix(file, ".crl")
	shard, err := strconv.Atoi(digits)
	if !ok || !named || err != nil || shard < 0 || shard >= revocation.MaxShards || strconv.Itoa(shard) != digits {
		h.empty(w, http.StatusNotFound)
		return
	}
	d, err := h.c.Source.CRL(r.Context(), id, shard)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.send(w, r, "application/pkix-crl", d)
}

func (h *handler) certificate(w http.ResponseWriter, r *http.Request, rest string) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	find := h.c.Source.IssuerCertificate
	issuer, named := strings.CutSuffix(rest, "/crl.cer")
	if named {
		find = h.c.Source.CRLSigner
	} else {
		issuer, named = strings.CutSuffix(rest, ".cer")
	}
	id, ok := revocation.ParseKeyID(issuer)
	if !ok || !named {
		h.empty(w, http.StatusNotFound)
		return
	}
	d, err := find(r.Context(), id)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	// Another one may take its place long before its end, after a renewal.
	if tomorrow := h.c.Now().Add(24 * time.Hour); d.NextUpdate.After(tomorrow) {
		d.NextUpdate = tomorrow
	}
	h.send(w, r, "application/pkix-cert", d)
}

func (h *handler) ocsp(w http.ResponseWriter, r *http.Request, rest string) {
	if !allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return
	}
	issuer, encoded, _ := strings.Cut(rest, "/")
	var request []byte
	var ok bool
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			h.empty(w, http.StatusRequestEntityTooLarge)
			return
		}
		request, ok = body, err == nil && encoded == ""
	} else {
		request, ok = decodeRequest(encoded)
	}
	if !ok {
		h.refuse(w, http.StatusOK, ocsp.MalformedRequestErrorResponse)
		return
	}
	id, ok := revocation.ParseKeyID(issuer)
	if !ok {
		h.refuse(w, http.StatusOK, ocsp.UnauthorizedErrorResponse)
		return
	}
	d, err := h.c.Source.OCSP(r.Context(), id, request)
	switch {
	case err == nil:
		h.send(w, r, ocspResponse, d)
	case errors.Is(err, revocation.ErrMalformed):
		h.refuse(w, http.StatusOK, ocsp.MalformedRequestErrorResponse)
	case fault.KindOf(err) == fault.NotFound:
		h.refuse(w, http.StatusOK, ocsp.UnauthorizedErrorResponse)
	case fault.KindOf(err) == fault.Unavailable:
		h.log(r, err)
		w.Header().Set("Retry-After", retry)
		h.refuse(w, http.StatusServiceUnavailable, ocsp.TryLaterErrorResponse)
	default:
		h.log(r, err)
		h.refuse(w, http.StatusInternalServerError, ocsp.InternalErrorErrorResponse)
	}
}

const ocspResponse = "application/ocsp-response"

// send answers with a document, or says that the caller has it already.
func (h *handler) send(w http.ResponseWriter, r *http.Request, contentType string, d revocation.Document) {
	now := h.c.Now()
	end := d.NextUpdate
	if h.c.MaxAge > 0 && end.Sub(now) > h.c.MaxAge {
		end = now.Add(h.c.MaxAge)
	}
	age := max(0, int(end.Sub(now)/time.Second))
	head := w.Header()
	head.Set("Content-Type", contentType)
	head.Set("Cache-Control", "public, max-age="+strconv.Itoa(age)+", no-transform, must-revalidate")
	head.Set("Expires", end.UTC().Format(http.TimeFormat))
	head.Set("ETag", `"`+d.Tag+`"`)
	head.Set("Last-Modified", d.ThisUpdate.UTC().Format(http.TimeFormat))
	if r.Method == http.MethodPost { // there are no conditions and ranges on a POST
		head.Set("Content-Length", strconv.Itoa(len(d.DER)))
		_, _ = w.Write(d.DER)
		return
	}
	// No time, and so no conditions on it: two documents may be of one second, and
	// whoever has the first must not be told that nothing has changed.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.DER))
}

// refuse answers with an OCSP status that is not signed.
func (h *handler) refuse(w http.ResponseWriter, code int, body []byte) {
	head := w.Header()
	head.Set("Content-Type", ocspResponse)
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// fail maps an error without telling it.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch fault.KindOf(err) {
	case fault.NotFound:
		h.empty(w, http.StatusNotFound)
	case fault.Unavailable:
		h.log(r, err)
		w.Header().Set("Retry-After", retry)
		h.empty(w, http.StatusServiceUnavailable)
	default:
		h.log(r, err)
		h.empty(w, http.StatusInternalServerError)
	}
}

func (h *handler) empty(w http.ResponseWriter, code int) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
}

func (h *handler) log(r *http.Request, err error) {
	h.c.Logger.LogAttrs(r.Context(), slog.LevelWarn, "pki: a request could not be answered",
		slog.String("path", r.URL.Path), slog.Any("cause", err))
}

func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	w.WriteHeader(http.StatusMethodNotAllowed)
	return false
}

// statusWriter remembers the status code.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
