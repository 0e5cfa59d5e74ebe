package powerauth

import (
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/internal/qr"
)

// pictured answers a QR code's text as PNG or SVG to who asks for that (Accept),
// and body to everybody else. People rather look than read.
func pictured(r *rest.Request, text string, body any) (rest.Response, error) {
	const png, svg = "image/png", "image/svg+xml"
	var (
		resp = rest.OK(body)
		data []byte
		err  error
	)
	kind := r.Prefers("application/json", png, svg)
	switch kind {
	case png:
		data, err = qr.PNG(text, 0)
	case svg:
		data, err = qr.SVG(text)
	}
	if data != nil {
		resp.Body = rest.Raw{ContentType: kind, Data: data}
	}
	resp.Header = map[string]string{"Vary": "Accept"}
	return resp, err
}
