package operation_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

// BenchmarkApprove is the life of an operation on a database that never syncs:
// created, listed by the phone, approved. Signatures are package registration's.
func BenchmarkApprove(b *testing.B) {
	w := newWorld(b)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		op, err := w.ops.Create(b.Context(), alpha, createParams("petr"))
		require.NoError(b, err)
		list, err := w.ops.List(b.Context(), alpha, p.device(), "en")
		require.NoError(b, err)
		require.Len(b, list, 1)
		require.NoError(b, p.approve(b.Context(), w.ops, op))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "operations/s")
}

// BenchmarkOffline is a QR code and its OTP: one unsealed key and one ECDSA
// signature, then the two writes and their mark.
func BenchmarkOffline(b *testing.B) {
	w := newWorld(b)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		op := w.create(alpha, "petr")
		b.StartTimer()
		qr := p.qr(op)
		v, err := w.ops.OfflineOTP(b.Context(), alpha, p.otp(op, qr, p.scan(qr, signature.PossessionKnowledge)))
		require.NoError(b, err)
		require.True(b, v.Valid)
	}
}

func BenchmarkParseData(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		if _, err := operation.ParseData(paymentData); err != nil {
			b.Fatal(err)
		}
	}
}
