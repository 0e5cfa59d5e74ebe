package ast

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/problem"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/ca/sdkconfig"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/filter"
)

// Numbers of the parts, as the contract's x-error-codes lists them.
const (
	subsystemCA      = 500
	subsystemGeneral = 599
)

// row says how one failure is told. A sentinel without a row is a 500: so a
// domain's new error is never told by accident, and a test asks for its row.
type row struct {
	err       *fault.Error
	status    int
	subsystem int32
}

var table = []row{
	{rest.ErrURL, http.StatusNotFound, subsystemGeneral},
	{rest.ErrMethod, http.StatusMethodNotAllowed, subsystemGeneral},
	{rest.ErrRequest, http.StatusBadRequest, subsystemGeneral},
	{rest.ErrTooLarge, http.StatusRequestEntityTooLarge, subsystemGeneral},
	{rest.ErrMediaType, http.StatusUnsupportedMediaType, subsystemGeneral},
	{rest.ErrBodyRead, http.StatusBadRequest, subsystemGeneral},

	{access.ErrUnauthenticated, http.StatusUnauthorized, subsystemGeneral},
	{access.ErrForbidden, http.StatusForbidden, subsystemGeneral},
	{access.ErrCredential, http.StatusBadRequest, subsystemGeneral},
	{access.ErrUserExists, http.StatusConflict, subsystemGeneral},
	{access.ErrUserUnknown, http.StatusNotFound, subsystemGeneral},
	{access.ErrBusy, http.StatusTooManyRequests, subsystemGeneral},
	{access.ErrConfig, http.StatusInternalServerError, subsystemGeneral},

	{ca.ErrNoSigner, http.StatusNotFound, subsystemCA},
	{ca.ErrNotIssued, http.StatusConflict, subsystemCA},
	{ca.ErrSignerUsed, http.StatusConflict, subsystemCA},
	{ca.ErrSignerRevoked, http.StatusConflict, subsystemCA},
	{ca.ErrQueued, http.StatusConflict, subsystemCA},
	{ca.ErrNoCertificate, http.StatusNotFound, subsystemCA},
	{ca.ErrCertificateState, http.StatusConflict, subsystemCA},
	{ca.ErrSignerCertificate, http.StatusConflict, subsystemCA},
	{ca.ErrPeer, http.StatusForbidden, subsystemCA},
	{ca.ErrRenewals, http.StatusTooManyRequests, subsystemCA},
	{ca.ErrSuperseded, http.StatusConflict, subsystemCA},
	{ca.ErrBusy, http.StatusConflict, subsystemCA},
	{ca.ErrOtherIssuer, http.StatusConflict, subsystemCA},
	{ca.ErrRequest, http.StatusBadRequest, subsystemCA},
	{ca.ErrConfig, http.StatusInternalServerError, subsystemCA},
	{ca.ErrKey, http.StatusInternalServerError, subsystemCA},
	{ca.ErrRecord, http.StatusInternalServerError, subsystemCA},

	{filter.ErrProperty, http.StatusBadRequest, subsystemCA},
	{filter.ErrSyntax, http.StatusBadRequest, subsystemCA},
	{sdkconfig.ErrRequest, http.StatusBadRequest, subsystemCA},
	{sdkconfig.ErrNoSigner, http.StatusConflict, subsystemCA},
	{revocation.ErrReason, http.StatusBadRequest, subsystemCA},
	{revocation.ErrRecord, http.StatusInternalServerError, subsystemCA},

	{issuance.ErrRequest, http.StatusBadRequest, subsystemCA},
	{issuance.ErrRequestSignature, http.StatusBadRequest, subsystemCA},
	{issuance.ErrKeyAlgorithm, http.StatusBadRequest, subsystemCA},
	{issuance.ErrWeakKey, http.StatusBadRequest, subsystemCA},
	{issuance.ErrKeyBlocked, http.StatusBadRequest, subsystemCA},
	{issuance.ErrExtension, http.StatusBadRequest, subsystemCA},
	{issuance.ErrAltName, http.StatusBadRequest, subsystemCA},
	{issuance.ErrSubject, http.StatusBadRequest, subsystemCA},
	{issuance.ErrIssuerExpired, http.StatusConflict, subsystemCA},
	{issuance.ErrProfile, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrIssuer, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrLocation, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrLint, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrSerial, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrDraftUsed, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrSigning, http.StatusInternalServerError, subsystemCA},
	{issuance.ErrChain, http.StatusInternalServerError, subsystemCA},

	{fault.ErrUnavailable, http.StatusServiceUnavailable, subsystemGeneral},
}

// retryAfter, in seconds, is when one renewal more may be due: they leave the span
// one by one.
const retryAfter = "600"

var rows = problem.NewTable(table, func(r row) *fault.Error { return r.err })

func problemBody(err error, id string) rest.Response {
	r, f, ok := rows.Find(err)
	if !ok {
		r = row{nil, http.StatusInternalServerError, subsystemGeneral}
	}
	body := spec.Error{Code: strconv.Itoa(r.status), Subsystem: r.subsystem}
	if r.status == http.StatusInternalServerError {
		body.Message = "internal error, report id " + id
	} else {
		body.Message = message(r.err.Message, f.Violations)
	}
	resp := rest.Response{Status: r.status, Body: body}
	switch r.status {
	case http.StatusUnauthorized:
		resp.Header = map[string]string{"WWW-Authenticate": `Bearer realm="signet"`}
	case http.StatusTooManyRequests:
		resp.Header = map[string]string{"Retry-After": retryAfter}
	}
	return resp
}

// message names the broken rules, since the body has no other place for them.
func message(text string, violations []fault.Violation) string {
	var b strings.Builder
	b.WriteString(text)
	for i, v := range violations {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + v.Field + " " + v.Hint)
	}
	return b.String()
}
