package signature_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"github.com/signet-hsm/signet/signature"
)

// A server verifies a request it got with keys it derived once.
func ExampleKeys_Verify() {
	var master [16]byte // signature.MasterSecret of the key agreement, kept sealed
	keys := signature.DeriveKeys(master)
	counter := signature.Counter{} // the one the server expects next
	secret := []byte("6Sit4w2Otz95GSql2d1hZw==")

	// The device, three signatures ahead because two requests were lost.
	request := signature.Request{
		Method: "POST", URIID: "/operation/authorize", Nonce: make([]byte, 16), Body: []byte(`{"a":1}`), Secret: secret,
	}
	sent := signature.Header{
		ActivationID: "162f44aa-c9db-46bb-908d-049b3126c6ea", Factors: signature.PossessionKnowledge, Version: signature.V31,
		Signature: keys.Sign(signature.V31, signature.PossessionKnowledge, request, counter.Next().Next()),
	}.String()

	h, err := signature.ParseHeader(sent)
	if err != nil {
		fmt.Println(err)
		return
	}
	request.Nonce = nil // Verify takes the header's
	match, ok := keys.Verify(&h, request, counter, signature.DefaultLookAhead)
	fmt.Println(ok, match.Offset, match.Factors)

	// Once the counter is stored, the same header is worth nothing.
	_, ok = keys.Verify(&h, request, match.Next, signature.DefaultLookAhead)
	fmt.Println(ok)
	// Output:
	// true 2 possession_knowledge
	// false
}

// A server opens a request with the result of a key agreement, which may come
// from an HSM, and answers in the same envelope.
func ExampleOpenRequest() {
	master, _ := ecdh.P256().GenerateKey(rand.Reader) // stands for the HSM
	ephemeral, _ := ecdh.P256().GenerateKey(rand.Reader)
	params := signature.EnvelopeParams{
		Version: signature.V32, Scope: signature.ApplicationScope, SharedInfo1: signature.InfoLayer2,
		SharedInfo2: signature.ApplicationSharedInfo2([]byte("6Sit4w2Otz95GSql2d1hZw==")),
	}
	stamp := signature.Stamp{Nonce: [16]byte{1}, Timestamp: 1700000000000}
	wire, device, _ := signature.SealRequest(ephemeral, master.PublicKey(), params, []byte("hello"), stamp)

	cryptogram, err := signature.ParseEncryptedRequest(signature.V32, wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	z, _ := master.ECDH(cryptogram.EphemeralKey)
	plaintext, responder, err := signature.OpenRequest(z, params, cryptogram)
	fmt.Println(string(plaintext), err)
	answer, _ := responder.Seal([]byte("welcome"), signature.Stamp{Nonce: [16]byte{2}, Timestamp: 1700000000005})
	plaintext, err = device.Open(answer)
	fmt.Println(string(plaintext), err)
	_, err = responder.Seal([]byte("again"), stamp)
	fmt.Println(err)
	// Output:
	// hello <nil>
	// welcome <nil>
	// encryption envelope was used before
}
