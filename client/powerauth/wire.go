package powerauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// maxAnswer bounds what the device reads of an answer.
const maxAnswer = 1 << 20

// ServerError is an answer other than 200. Code and Message are empty when the
// body is not the error object of the protocol.
type ServerError struct {
	Status  int // HTTP
	Code    string
	Message string
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("powerauth: the server answered %d %s %s", e.Status, e.Code, e.Message)
}

// objectRequest and objectResponse wrap what is not an encrypted message.
type (
	objectRequest[T any] struct {
		Object T `json:"requestObject"`
	}
	objectResponse[T any] struct {
		Status string `json:"status"`
		Object T      `json:"responseObject"`
	}
)

// post sends JSON with one PowerAuth header, or none, and reads JSON.
func (d *Device) post(ctx context.Context, path, header, value string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return d.send(ctx, path, header, value, body, out)
}

// send is post of a body that was signed: not a byte of it may change.
func (d *Device) send(ctx context.Context, path, header, value string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.baseURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	return d.do(req, out)
}

// do sends a request whose PowerAuth header stands in it already.
func (d *Device) do(req *http.Request, out any) error {
	if req.Body != nil && req.Body != http.NoBody {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return serverError(resp.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func serverError(status int, answer []byte) error {
	var body struct {
		ResponseObject struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"responseObject"`
	}
	_ = json.Unmarshal(answer, &body) // not every proxy speaks the protocol
	return &ServerError{status, body.ResponseObject.Code, body.ResponseObject.Message}
}
