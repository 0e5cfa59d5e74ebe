package hsm_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/hsmtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// What callers ask of an error has the same answer after a journey as a Failure.
func TestFailuresSurviveTheJourney(t *testing.T) {
	t.Parallel()
	sentinels := []*fault.Error{
		fault.ErrUnavailable, hsm.ErrKeyNotFound, hsm.ErrExists, hsm.ErrAmbiguous, hsm.ErrTemplate, hsm.ErrSelfTest, hsm.ErrPIN,
		hsm.ErrTokenNotFound, hsm.ErrUnsupported, hsm.ErrRefused, hsm.ErrTag, hsm.ErrRef, hsm.ErrClosed, hsm.ErrConfig,
	}
	list := []error{
		errors.New("plain"),
		fmt.Errorf("hsm: waiting: %w: %w", fault.ErrUnavailable, context.DeadlineExceeded),
		fmt.Errorf("hsm: waiting: %w: %w", fault.ErrUnavailable, context.Canceled),
		fmt.Errorf("hsm: sign: %w: %w", hsm.ErrRefused, p11.Error(p11.CKR_DATA_LEN_RANGE)),
		fmt.Errorf("hsm: sign: %w: %w", fault.ErrUnavailable, p11.Error(0x80000042)),
		errors.Join(fmt.Errorf("hsm: open: %w: %w", hsm.ErrRefused, p11.Error(p11.CKR_GENERAL_ERROR)), fault.ErrUnavailable),
		errors.Join(fault.ErrUnavailable, hsm.ErrRefused),
	}
	for _, s := range sentinels {
		list = append(list, s, fmt.Errorf("why: %w", s))
	}
	require.NoError(t, hsm.FailureOf(nil).Err())
	for _, err := range list {
		f := hsm.FailureOf(err)
		back := f.Err()
		require.EqualError(t, back, err.Error())
		require.Equal(t, fault.KindOf(err), fault.KindOf(back), "%v", err)
		for _, s := range sentinels {
			require.Equal(t, errors.Is(err, s), errors.Is(back, s), "%v: %v", err, s)
		}
		for _, s := range []error{context.Canceled, context.DeadlineExceeded} {
			require.Equal(t, errors.Is(err, s), errors.Is(back, s), "%v: %v", err, s)
		}
		var was, is p11.Error
		require.Equal(t, errors.As(err, &was), errors.As(back, &is))
		require.Equal(t, was, is)
		require.Equal(t, f, hsm.FailureOf(back), "a second journey changes nothing")
	}
	require.Equal(t, fault.Internal, fault.KindOf(hsm.Failure{Reasons: []string{"FROM_TOMORROW"}, Text: "x"}.Err()))
}

// far is an engine behind a border that only plain data crosses: what it is given
// and what it gives are copies.
type far struct{ hsm.Engine }

func clone(b []byte) []byte { return append([]byte(nil), b...) }

func (e far) append(dst, out []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, hsm.FailureOf(err).Err()
	}
	return append(dst, out...), nil
}

func (e far) Sign(ctx context.Context, k hsm.Key, m hsm.Mechanism, dst, in []byte) ([]byte, error) {
	out, err := e.Engine.Sign(ctx, k, m, nil, clone(in))
	return e.append(dst, out, err)
}

func (e far) MAC(ctx context.Context, k hsm.Key, dst, msg []byte) ([]byte, error) {
	out, err := e.Engine.MAC(ctx, k, nil, clone(msg))
	return e.append(dst, out, err)
}

func (e far) Seal(ctx context.Context, k hsm.Key, dst, plain, aad []byte) ([]byte, error) {
	out, err := e.Engine.Seal(ctx, k, nil, clone(plain), clone(aad))
	return e.append(dst, out, err)
}

func (e far) Unseal(ctx context.Context, k hsm.Key, dst, sealed, aad []byte) ([]byte, error) {
	out, err := e.Engine.Unseal(ctx, k, nil, clone(sealed), clone(aad))
	return e.append(dst, out, err)
}

func (e far) Agree(ctx context.Context, k hsm.Key, dst, point []byte) ([]byte, error) {
	out, err := e.Engine.Agree(ctx, k, nil, clone(point))
	return e.append(dst, out, err)
}

func (e far) Random(ctx context.Context, p []byte) error {
	return hsm.FailureOf(e.Engine.Random(ctx, p)).Err()
}

func (e far) Find(ctx context.Context, ref hsm.Ref) (hsm.KeyInfo, error) {
	info, err := e.Engine.Find(ctx, ref)
	return info, hsm.FailureOf(err).Err()
}

func (e far) Generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) (hsm.KeyInfo, error) {
	info, err := e.Engine.Generate(ctx, ref, alg, id)
	return info, hsm.FailureOf(err).Err()
}

func (e far) Destroy(ctx context.Context, ref hsm.Ref) error {
	return hsm.FailureOf(e.Engine.Destroy(ctx, ref)).Err()
}

func (e far) Check(ctx context.Context) error { return hsm.FailureOf(e.Engine.Check(ctx)).Err() }

// The whole contract holds for a Token whose engine is elsewhere.
func TestContractFar(t *testing.T) {
	t.Parallel()
	hsmtest.Run(t, func(t *testing.T) *hsm.Token {
		e, err := hsm.OpenEngine(t.Context(), softhsmtest.Create(t).HSM())
		require.NoError(t, err)
		tok, err := hsm.New(t.Context(), far{e}, hsm.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, tok.Close()) })
		return tok
	}, hsmtest.Caps{})
}

func TestOperations(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for op := hsm.OpSign; op <= hsm.OpInfo; op++ {
		require.NotEqual(t, "unknown", op.String())
		require.False(t, names[op.String()], "%v stands twice", op)
		names[op.String()] = true
		require.Equal(t, op != hsm.OpGenerate && op != hsm.OpDestroy, op.Repeatable(), op.String())
	}
	require.Equal(t, "unknown", hsm.Op(200).String())
	require.Equal(t, "unknown", hsm.Scheme(0).String())
}
