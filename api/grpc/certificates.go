package grpc

import (
	"context"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
)

type certificates struct {
	signetv1.UnimplementedCertificateServiceServer
	authority Authority
	server    *Server
}

func (s certificates) IssueCertificate(ctx context.Context, req *signetv1.IssueCertificateRequest) (*signetv1.IssueCertificateResponse, error) {
	issued, err := s.issue(ctx, req.GetOrder())
	if err != nil {
		return nil, err
	}
	return &signetv1.IssueCertificateResponse{Issued: issued}, nil
}

// issue serves one order.
func (s certificates) issue(ctx context.Context, o *signetv1.CertificateOrder) (*signetv1.IssuedCertificate, error) {
	r, err := issueRequest(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := s.authority.Issue(ctx, principal(ctx).Tenant, r)
	if err != nil {
		return nil, err
	}
	return issuedCertificate(c), nil
}

func (s certificates) GetCertificate(ctx context.Context, req *signetv1.GetCertificateRequest) (*signetv1.GetCertificateResponse, error) {
	serial, err := namedBySerial(req)
	if err != nil {
		return nil, err
	}
	var info ca.CertificateInfo
	if ref := req.GetCertRef(); ref != "" {
		info, err = s.authority.CertificateInfo(ctx, principal(ctx).Tenant, ref)
	} else {
		info, err = s.authority.CertificateBySerial(ctx, principal(ctx).Tenant, serial)
	}
	if err != nil {
		return nil, err
	}
	return &signetv1.GetCertificateResponse{Info: certificateInfo(info)}, nil
}

func (s certificates) ListCertificates(ctx context.Context, req *signetv1.ListCertificatesRequest) (*signetv1.ListCertificatesResponse, error) {
	page := ca.Page{Number: int(req.GetPage()), Size: int(req.GetPageSize()), Filter: req.GetFilter()}
	list, total, err := s.authority.ListCertificates(ctx, principal(ctx).Tenant, page)
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListCertificatesResponse{Total: int64(total)}
	for _, one := range list {
		resp.Certificates = append(resp.Certificates, certificateInfo(one))
	}
	return resp, nil
}

// issueRequest is an order as the domain takes it. Only what the domain could not
// even be told is judged here.
func issueRequest(ctx context.Context, o *signetv1.CertificateOrder) (ca.IssueRequest, error) {
	if o == nil {
		return ca.IssueRequest{}, missing("order")
	}
	r := ca.IssueRequest{
		Profile: o.GetProfile(), CSR: o.GetCsr(), User: o.GetUser(), Client: o.GetClient(),
		AltNames: issuance.AltNames{DNS: o.GetDnsNames()}, Actor: principal(ctx).Name,
	}
	var wrong []fault.Violation
	for i, s := range o.GetIpAddresses() {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			wrong = append(wrong, fault.Violation{Field: fmt.Sprintf("order.ip_addresses[%d]", i), Hint: "must be an IP address"})
		}
		r.AltNames.IP = append(r.AltNames.IP, ip)
	}
	if wrong != nil {
		return ca.IssueRequest{}, errRequest.With(wrong...)
	}
	return r, nil
}

func issuedCertificate(c ca.Certificate) *signetv1.IssuedCertificate {
	return &signetv1.IssuedCertificate{
		CertRef: c.Ref, Serial: c.Serial.String(), Certificate: c.DER, Chain: c.Chain, Signer: c.Signer,
		NotBefore: timestamppb.New(c.NotBefore), NotAfter: timestamppb.New(c.NotAfter),
	}
}

var certificateStatuses = map[ca.CertificateStatus]signetv1.CertificateStatus{
	ca.StatusRequested: signetv1.CertificateStatus_CERTIFICATE_STATUS_REQUESTED,
	ca.StatusIssued:    signetv1.CertificateStatus_CERTIFICATE_STATUS_ISSUED,
	ca.StatusFailed:    signetv1.CertificateStatus_CERTIFICATE_STATUS_FAILED,
	ca.StatusRevoked:   signetv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED,
	ca.StatusExpired:   signetv1.CertificateStatus_CERTIFICATE_STATUS_EXPIRED,
}

func certificateInfo(c ca.CertificateInfo) *signetv1.CertificateInfo {
	out := &signetv1.CertificateInfo{
		CertRef: c.Ref, Status: certificateStatuses[c.Status], Signer: c.Signer, User: c.User, Client: c.Client, Profile: c.Profile,
		RequestedAt: timestamppb.New(c.RequestedAt),
	}
	if !c.IssuedAt.IsZero() {
		out.IssuedAt = timestamppb.New(c.IssuedAt)
	}
	return out
}
