package wire

import (
	"bytes"
	"errors"
	"io"

	"github.com/prometheus/common/expfmt"

	dto "github.com/prometheus/client_model/go"

	"github.com/signet-hsm/signet/hsm"
)

// MaxPIN bounds a PIN in bytes.
const MaxPIN = 1024

// AppendPIN appends the answer to a KindAskPIN: the PIN, or why there is none.
func AppendPIN(dst []byte, id uint64, pin []byte, err error) []byte {
	start := len(dst)
	dst = Begin(dst, KindPIN, id)
	if err != nil || len(pin) > MaxPIN {
		return End(AppendFailure(append(dst, 0), hsm.FailureOf(err)), start)
	}
	return End(append(append(dst, 1), pin...), start)
}

// ParsePIN is the inverse of AppendPIN. The PIN aliases body.
func ParsePIN(body []byte) (pin []byte, f hsm.Failure, err error) {
	if len(body) > 0 && body[0] == 1 && len(body)-1 <= MaxPIN {
		return body[1:], f, nil
	}
	if len(body) > 0 && body[0] == 0 {
		if f, err = ParseFailure(body[1:]); err == nil && f.Err() != nil {
			return nil, f, nil
		}
	}
	return nil, hsm.Failure{}, violation("PIN does not parse")
}

// AppendFamilies appends metrics as Prometheus spells them.
func AppendFamilies(dst []byte, list []*dto.MetricFamily) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	e := expfmt.NewEncoder(b, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, f := range list {
		if err := e.Encode(f); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// ParseFamilies is the inverse of AppendFamilies.
func ParseFamilies(body []byte) (list []*dto.MetricFamily, err error) {
	d := expfmt.NewDecoder(bytes.NewReader(body), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		f := &dto.MetricFamily{}
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, violation("metrics: %v", err)
		}
		list = append(list, f)
	}
}
