package grpc

import (
	"context"
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
)

func (s signers) RevokeSigner(ctx context.Context, req *signetv1.RevokeSignerRequest) (*signetv1.RevokeSignerResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	reason, since, err := why(req)
	if err != nil {
		return nil, err
	}
	p := principal(ctx)
	err = s.authority.RevokeSigner(ctx, p.Tenant, ca.RevokeSigner{Spec: req.GetSigner(), Reason: reason, Since: since, Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.RevokeSignerResponse{}, nil
}

func (s signers) RevokeIssuedCertificates(ctx context.Context, req *signetv1.RevokeIssuedCertificatesRequest) (*signetv1.RevokeIssuedCertificatesResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	reason, since, err := why(req)
	if err != nil {
		return nil, err
	}
	part, cancel := portion(ctx)
	defer cancel()
	p := principal(ctx)
	revoked, err := s.authority.RevokeIssued(part, p.Tenant, ca.RevokeIssued{Spec: req.GetSigner(), Reason: reason, Since: since, Actor: p.Name})
	complete, err := partly(ctx, part, revoked, err)
	if err != nil {
		return nil, err
	}
	return &signetv1.RevokeIssuedCertificatesResponse{Revoked: int64(revoked), Complete: complete}, nil
}

func (s certificates) RevokeCertificate(ctx context.Context, req *signetv1.RevokeCertificateRequest) (*signetv1.RevokeCertificateResponse, error) {
	reason, since, err := why(req)
	if err != nil {
		return nil, err
	}
	if reason == revocation.CACompromise || reason == revocation.AACompromise {
		return nil, bad("reason", "must be one for a certificate that is no CA's")
	}
	p := principal(ctx)
	order := ca.RevokeCertificate{Ref: req.GetCertRef(), Reason: reason, Since: since, Actor: p.Name}
	if order.Serial, err = namedBySerial(req); err != nil {
		return nil, err
	}
	if err := s.authority.RevokeCertificate(ctx, p.Tenant, order); err != nil {
		return nil, err
	}
	return &signetv1.RevokeCertificateResponse{}, nil
}

// namedBySerial reads how a request names a certificate: by its reference, and the
// serial is zero, or by its serial.
func namedBySerial(req interface {
	GetCertRef() string
	GetSerial() string
},
) (serial issuance.Serial, err error) {
	switch {
	case req.GetCertRef() == "" && req.GetSerial() == "":
		return serial, missing("cert_ref")
	case req.GetCertRef() != "" && req.GetSerial() != "":
		return serial, bad("serial", "must not be present beside cert_ref")
	case req.GetCertRef() != "":
		return serial, nil
	}
	raw, err := hex.DecodeString(req.GetSerial())
	if err == nil {
		serial, err = issuance.ParseSerial(raw)
	}
	if err != nil || serial.String() != req.GetSerial() {
		return serial, bad("serial", "must be a serial number as 32 lower-case hex digits")
	}
	return serial, nil
}

// why reads what all revocations say. The enum has the numbers of RFC 5280; which
// of them are reasons is the domain's.
func why(req interface {
	GetReason() signetv1.RevocationReason
	GetSince() *timestamppb.Timestamp
},
) (reason revocation.Reason, since time.Time, err error) {
	var wrong []fault.Violation
	number := req.GetReason()
	reason = revocation.Reason(number)
	if signetv1.RevocationReason(reason) != number || !reason.Valid() {
		wrong = append(wrong, fault.Violation{Field: "reason", Hint: "must be a RevocationReason"})
	}
	if at := req.GetSince(); at != nil {
		if at.CheckValid() != nil {
			wrong = append(wrong, fault.Violation{Field: "since", Hint: "must be a time of the years 1 to 9999"})
		}
		since = at.AsTime()
	}
	if wrong != nil {
		return 0, time.Time{}, errRequest.With(wrong...)
	}
	return reason, since, nil
}
