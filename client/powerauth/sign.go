package powerauth

import (
	"fmt"
	"io"

	"github.com/signet-hsm/signet/signature"
)

// Sign signs a POST, PUT or DELETE and returns the value of the header
// signature.HeaderName. uriID is the agreed id of the resource, body the bytes
// that will be sent. The counter moves by one.
func (d *Device) Sign(method, uriID string, body []byte, f signature.Factor) (header string, err error) {
	var nonce [16]byte
	if _, err := io.ReadFull(d.random, nonce[:]); err != nil {
		return "", fmt.Errorf("make a nonce: %w", err)
	}
	if !f.Valid() {
		return "", ErrFactors
	}
	a, counter, err := d.step()
	if err != nil {
		return "", err
	}
	return signature.Header{
		ActivationID: a.id, ApplicationKey: d.appKey, Nonce: nonce, Factors: f, Version: d.version,
		Signature: a.keys.Sign(d.version, f, signature.Request{
			Method: method, URIID: uriID, Nonce: nonce[:], Body: body, Secret: d.secret,
		}, counter),
	}.String(), nil
}

// SignGET signs a GET with its decoded query parameters.
func (d *Device) SignGET(uriID string, query map[string]string, f signature.Factor) (header string, err error) {
	return d.Sign("GET", uriID, signature.NormalizeGET(query), f)
}

// Offline is an operation that came by QR code.
type Offline struct {
	OperationID string
	Data        string // the operation data line, exactly as it stands in the code
	Nonce       [16]byte
	TOTP        string // from the code, when it has one
	Digits      int    // of a component; 0 is 8
}

// SignOffline computes the digits that the person copies, e.g.
// "12345678-12345678". The counter moves by one.
func (d *Device) SignOffline(o Offline, f signature.Factor) (string, error) {
	if !f.Valid() {
		return "", ErrFactors
	}
	if o.Digits == 0 {
		o.Digits = signature.OnlineDigits
	}
	if o.Digits < signature.MinDigits || o.Digits > signature.MaxDigits {
		return "", signature.ErrDigits
	}
	a, counter, err := d.step()
	if err != nil {
		return "", err
	}
	body := o.OperationID + "&" + o.Data
	if o.TOTP != "" {
		body += "&" + o.TOTP
	}
	sig, err := a.keys.SignOffline(o.Digits, f, signature.Request{
		Method: "POST", URIID: "/operation/authorize/offline", Nonce: o.Nonce[:],
		Body: []byte(body), Secret: []byte(signature.OfflineSecret),
	}, counter)
	if err != nil {
		return "", err
	}
	return sig.String(), nil
}

// step hands out the counter for one signature. It moves before the signature is
// made: one counter never serves two.
func (d *Device) step() (*activation, signature.Counter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.activation
	if a == nil {
		return nil, signature.Counter{}, ErrNotActive
	}
	counter := a.counter
	a.counter = counter.Next()
	a.used++
	return a, counter, nil
}
