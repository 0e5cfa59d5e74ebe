package tokentest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// Handler serves the device's endpoints of a node. A failure is the error object
// of the protocol with the reason of the domain's sentinel as its code.
func Handler(n Node) http.Handler {
	mux := http.NewServeMux()
	post := func(path string, serve func(r *http.Request, body []byte) (any, error)) {
		mux.HandleFunc("POST /pa/v3"+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			var answer any
			if err == nil {
				answer, err = serve(r, body)
			}
			respond(w, answer, err)
		})
	}
	signed := func(path string, serve func(r *http.Request, req registration.SignedRequest) (any, error)) {
		post(path, func(r *http.Request, body []byte) (any, error) {
			h, err := signature.ParseHeader(r.Header.Get(signature.HeaderName))
			if err != nil {
				return nil, err
			}
			return serve(r, registration.SignedRequest{Header: h, Body: body})
		})
	}
	post("/activation/create", func(r *http.Request, body []byte) (any, error) {
		h, err := signature.ParseEncryptionHeader(r.Header.Get(signature.EncryptionHeaderName), signature.ApplicationScope)
		if err != nil {
			return nil, err
		}
		var m signature.EncryptedRequest
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		return n.Registrations.Activate(r.Context(), registration.ActivateRequest{Header: h, Message: m})
	})
	post("/activation/status", n.status)
	post("/keystore/create", func(r *http.Request, body []byte) (any, error) {
		in, err := object[struct{ JWT string }](body)
		if err != nil {
			return nil, err
		}
		jwt, err := n.Registrations.TemporaryKey(r.Context(), in.JWT)
		return ok("jwt", jwt), err
	})
	signed("/activation/remove", func(r *http.Request, req registration.SignedRequest) (any, error) {
		id, err := n.Registrations.RemoveDevice(r.Context(), req)
		return ok("activationId", id), err
	})
	signed("/activation/rename", func(r *http.Request, req registration.SignedRequest) (any, error) {
		return n.Registrations.Rename(r.Context(), req)
	})
	signed("/vault/unlock", func(r *http.Request, req registration.SignedRequest) (any, error) {
		return n.Registrations.VaultUnlock(r.Context(), req)
	})
	signed("/signature/validate", func(r *http.Request, req registration.SignedRequest) (any, error) {
		return map[string]string{"status": "OK"}, n.Registrations.ValidateSignature(r.Context(), req)
	})
	signed("/token/create", func(r *http.Request, req registration.SignedRequest) (any, error) {
		return n.Tokens.Create(r.Context(), req)
	})
	signed("/token/remove", func(r *http.Request, req registration.SignedRequest) (any, error) {
		id, err := n.Tokens.Remove(r.Context(), req)
		return ok("tokenId", id), err
	})
	return mux
}

func (n Node) status(r *http.Request, body []byte) (any, error) {
	in, err := object[struct{ ActivationID, Challenge string }](body)
	if err != nil {
		return nil, err
	}
	var challenge *[16]byte
	if in.Challenge != "" {
		raw, err := signature.ParseBase64(in.Challenge)
		if err != nil || len(raw) != 16 {
			return nil, signature.ErrBase64
		}
		challenge = (*[16]byte)(raw)
	}
	a, err := n.Registrations.Status(r.Context(), in.ActivationID, challenge)
	answer := map[string]any{"activationId": in.ActivationID, "encryptedStatusBlob": signature.EncodeBase64(a.Blob[:])}
	if a.Nonce != nil {
		answer["nonce"] = signature.EncodeBase64(a.Nonce[:])
	}
	return map[string]any{"status": "OK", "responseObject": answer}, err
}

func object[T any](body []byte) (T, error) {
	var m struct {
		Object T `json:"requestObject"`
	}
	err := json.Unmarshal(body, &m)
	return m.Object, err
}

func ok(key, value string) any {
	return map[string]any{"status": "OK", "responseObject": map[string]string{key: value}}
}

func respond(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := "ERROR_GENERIC"
		if f := fault.Of(err); f != nil {
			code = f.Reason
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"status":"ERROR","responseObject":{"code":%q,"message":""}}`, code)
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // the device that is gone gets no answer
}
