package issuance

import "time"

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// caKeys are the keys a certificate authority of ours may have.
var caKeys = []KeyAlgorithm{P256, P384, RSA, Ed25519}

// Root is the profile ROOT: the self-signed anchor, kept offline. Its path is
// not limited, so that another layer can be added under it one day.
func Root() Profile {
	return Profile{
		Name: "ROOT", SelfSigned: true, CA: true, MaxPath: -1,
		KeyUsages: []KeyUsage{CertSign, CRLSign},
		Validity:  20 * year,
		Subject:   SubjectPolicy{Required: []Attribute{CommonName}, Optional: []Attribute{Country, Organization, OrganizationalUnit}},
		Keys:      caKeys, MinRSABits: 3072,
	}
}

// Issuer is the profile ISSUER: the one CA above all tenant signers. The path
// limit lets it certify signers, and signers devices, and nothing deeper.
func Issuer() Profile {
	return Profile{
		Name: "ISSUER", CA: true, MaxPath: 1,
		KeyUsages: []KeyUsage{CertSign, CRLSign},
		Validity:  10 * year,
		Subject:   SubjectPolicy{Required: []Attribute{CommonName}, Optional: []Attribute{Country, Organization, OrganizationalUnit}},
		Keys:      caKeys, MinRSABits: 3072,
	}
}

// Signer is the profile SIGNER: one tenant's CA for devices. digitalSignature is
// there because the same key signs the tenant's SDK configuration (seed 001).
// The serial number attribute of its subject is the signer's id, which keeps the
// subjects of two generations apart.
func Signer() Profile {
	return Profile{
		Name: "SIGNER", CA: true, MaxPath: 0,
		KeyUsages: []KeyUsage{DigitalSignature, CertSign, CRLSign},
		Validity:  5 * year, Backdate: 5 * time.Minute,
		Subject: SubjectPolicy{Required: []Attribute{Organization, CommonName, SerialNumber}},
		Keys:    caKeys, MinRSABits: 3072,
	}
}

// ASTDevice is the profile AST_DEVICE: the certificate of one client
// installation. The common name is the client id and the organisation the
// tenant. The user is left out: a certificate lies in logs and caches that no
// erasure reaches, and the authority's row knows whose it is.
func ASTDevice() Profile {
	return Profile{
		Name:         "AST_DEVICE",
		KeyUsages:    []KeyUsage{DigitalSignature},
		ExtKeyUsages: []ExtKeyUsage{ClientAuth},
		Validity:     2 * year, Backdate: 5 * time.Minute,
		Subject: SubjectPolicy{Required: []Attribute{Organization, CommonName}},
		Keys:    []KeyAlgorithm{P256, P384, RSA, Ed25519},
	}
}

// Signature is the profile SIGNATURE: a person's or a service's key for signing
// documents, kept apart from the one that logs in. contentCommitment states that
// the signature is meant to bind its holder (RFC 5280 section 4.2.1.3).
func Signature() Profile {
	return Profile{
		Name:         "SIGNATURE",
		KeyUsages:    []KeyUsage{DigitalSignature, ContentCommitment},
		ExtKeyUsages: []ExtKeyUsage{DocumentSigning},
		Validity:     2 * year, Backdate: 5 * time.Minute,
		Subject: SubjectPolicy{Required: []Attribute{Organization, CommonName}, Optional: []Attribute{SerialNumber}},
		Keys:    []KeyAlgorithm{P256, P384, RSA, Ed25519},
	}
}

// Gateway is the profile GATEWAY: a machine of the tenant's that serves phones
// and calls the others of its kind. Its host names are the caller's to know; an
// installation that can name its domains lists them in a profile of its own.
func Gateway() Profile {
	return Profile{
		Name:         "GATEWAY",
		KeyUsages:    []KeyUsage{DigitalSignature},
		ExtKeyUsages: []ExtKeyUsage{ServerAuth, ClientAuth},
		Validity:     year, Backdate: 5 * time.Minute,
		Subject:  SubjectPolicy{Required: []Attribute{Organization, CommonName}},
		AltNames: AltNamePolicy{Required: true, DNS: []string{"*"}},
		Keys:     []KeyAlgorithm{P256, P384, RSA, Ed25519},
	}
}

// OCSPSigning is the profile OCSP_SIGNING: the key that answers OCSP for the CA
// above it (RFC 6960 section 4.2.2.2). It can not be revoked in a way that
// anybody would notice, so it lives for days and is renewed while it is in use.
func OCSPSigning() Profile {
	return Profile{
		Name:         "OCSP_SIGNING",
		KeyUsages:    []KeyUsage{DigitalSignature},
		ExtKeyUsages: []ExtKeyUsage{AnswerOCSP},
		OCSPNoCheck:  true,
		Validity:     14 * day, Backdate: 5 * time.Minute,
		Subject: SubjectPolicy{Required: []Attribute{CommonName}, Optional: []Attribute{Organization, SerialNumber}},
		Keys:    caKeys, MinRSABits: 3072,
	}
}

// CRLSigning is the profile CRL_SIGNING: another key of the CA above it, which
// signs that CA's CRLs in its name. It lives for weeks and is renewed while it is
// in use, since nobody would notice its revocation.
func CRLSigning() Profile {
	return Profile{
		Name:       "CRL_SIGNING",
		KeyUsages:  []KeyUsage{CRLSign},
		SelfIssued: true,
		Validity:   30 * day, Backdate: 5 * time.Minute,
		Keys: []KeyAlgorithm{P256, P384, Ed25519}, // RFC 3279 has no cRLSign for an RSA key that is no CA's
	}
}
