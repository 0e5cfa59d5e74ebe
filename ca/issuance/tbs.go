package issuance

// The to-be-signed part is built here rather than by x509.CreateCertificate,
// which wants the private key to build it: there would be no draft to record and
// lint before the HSM is called. It also skips reflection and a second signature
// check. Per template the first extensions come encoded, per stencil the last, per
// authority the issuer's name.

var version3 = []byte{0xa0, 3, 2, 1, 2}

// subjectKeyID is the extension up to the identifier itself.
var subjectKeyID = []byte{tagSequence, 29, 6, 3, 0x55, 0x1d, 0x0e, 4, 22, 4, 20}

// encode fills d.tbs. The validity and scheme must be set.
func (d *Draft) encode(o *Order, s *Stencil) error {
	p := s.profile
	names, err := o.AltNames.encode()
	if err != nil {
		return err
	}
	extensions := len(p.extensions) + len(names) + len(subjectKeyID) + len(o.Request.keyID) + len(s.tail)
	subject := o.Subject.size()
	// The outer head goes in front when what follows is known.
	b := make([]byte, maxHead, 256+2*subject+len(o.Request.spki)+extensions+len(d.scheme.identifier)+s.issuerName())
	b = append(b, version3...)
	b = append(append(b, tagInteger, byte(len(d.serial))), d.serial[:]...)
	b = append(b, d.scheme.identifier...)
	if s.issuer == nil {
		b = o.Subject.append(b)
	} else {
		// Byte for byte: verifiers match names by their encoding.
		b = append(b, s.issuer.certificate.RawSubject...)
	}
	if b, err = d.appendValidity(b); err != nil {
		return err
	}
	if p.profile.SelfIssued {
		b = append(b, s.issuer.certificate.RawSubject...)
	} else {
		b = o.Subject.append(b)
	}
	b = append(b, o.Request.spki...)
	b = appendHead(b, tagExplicit3, sizeOf(extensions))
	b = appendHead(b, tagSequence, extensions)
	b = append(append(b, p.extensions...), names...)
	b = append(append(b, subjectKeyID...), o.Request.keyID[:]...)
	b = append(b, s.tail...)
	n := len(b) - maxHead
	if n > maxCertificate {
		return errTooLarge
	}
	b = b[maxHead-sizeHead(n):]
	appendHead(b[:0], tagSequence, n)
	d.tbs = b
	return nil
}

func (s *Stencil) issuerName() int {
	if s.issuer == nil {
		return 0
	}
	return 2 * len(s.issuer.certificate.RawSubject)
}

func (d *Draft) appendValidity(b []byte) ([]byte, error) {
	at := len(b)
	b = append(b, tagSequence, 0)
	b, err := appendTime(b, d.notBefore)
	if err == nil {
		b, err = appendTime(b, d.notAfter)
	}
	if err != nil {
		return nil, err
	}
	b[at+1] = byte(len(b) - at - 2) // 30 to 34
	return b, nil
}
