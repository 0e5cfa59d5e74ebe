package wire_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker/wire"
)

var ref = hsm.Ref{Tenant: "t", Role: hsm.RoleMAC, Name: "n", Generation: 7}

// requests holds one request of each operation.
func requests() []wire.Request {
	key := func(op hsm.Op) wire.Request {
		r := wire.Request{Op: op, ID: 0x0102030405060708, Timeout: 1500 * time.Microsecond, Label: wire.AppendLabel(nil, ref)}
		r.KeyID[0], r.Print[31] = 0xaa, 0xbb
		return r
	}
	sign, mac, seal, unseal, agree := key(hsm.OpSign), key(hsm.OpMAC), key(hsm.OpSeal), key(hsm.OpUnseal), key(hsm.OpAgree)
	sign.Mechanism = hsm.Mechanism{Scheme: hsm.SchemePSS, Hash: crypto.SHA384, Salt: 48}
	sign.Data, mac.Data = []byte("digest"), []byte("m")
	seal.AAD, seal.Data = []byte("aad"), []byte("plain")
	unseal.AAD, unseal.Data = []byte("aad"), []byte("sealed")
	agree.Data = []byte("point")
	label := wire.AppendLabel(nil, ref)
	return []wire.Request{
		sign, mac, seal, unseal, agree,
		{Op: hsm.OpRandom, ID: 1, Size: 32},
		{Op: hsm.OpFind, ID: 2, Label: label},
		{Op: hsm.OpKeys, ID: 3},
		{Op: hsm.OpGenerate, ID: 4, Label: label, Algorithm: "P-256", KeyID: [16]byte{1}},
		{Op: hsm.OpDestroy, ID: 5, Label: label},
		{Op: hsm.OpCheck, ID: 6},
		{Op: hsm.OpInfo, ID: 7},
	}
}

// frame reads the one frame in b.
func frame(tb testing.TB, b []byte) wire.Frame {
	tb.Helper()
	f, err := wire.NewReader(bytes.NewReader(b)).Next()
	require.NoError(tb, err)
	return f
}

// The bytes are the contract: what stands in testdata/golden.txt changes only with
// the preamble's version.
func TestGolden(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	line := func(name string, b []byte) { fmt.Fprintf(&got, "%s %s\n", name, hex.EncodeToString(b)) }
	line("preamble", []byte(wire.Preamble))
	for _, r := range requests() {
		line(r.Op.String(), wire.AppendRequest(nil, &r))
	}
	line("ok", wire.Append(nil, wire.Frame{Kind: wire.KindOK, ID: 9, Body: []byte("result")}))
	line("failed", wire.AppendFailed(nil, 9, fmt.Errorf("x: %w: %w", hsm.ErrRefused, p11.Error(p11.CKR_DATA_INVALID))))
	line("ask-pin", wire.Append(nil, wire.Frame{Kind: wire.KindAskPIN, ID: 1}))
	line("pin", wire.AppendPIN(nil, 1, []byte("1234"), nil))
	line("no-pin", wire.AppendPIN(nil, 1, nil, hsm.ErrPIN))
	hello, err := wire.AppendHello(nil, wire.Hello{Module: "/m.so", Env: map[string]string{"A": "b"}, TokenLabel: "l", Lanes: 2})
	require.NoError(t, err)
	line("hello", hello)
	info, err := wire.AppendKeyInfo(nil, hsm.KeyInfo{Ref: ref, ID: [16]byte{1}, Algorithm: hsm.HMACSHA256})
	require.NoError(t, err)
	line("key-info", info)
	const file = "testdata/golden.txt"
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

func TestRequestsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, want := range requests() {
		require.True(t, want.Fits())
		var got wire.Request
		require.NoError(t, wire.ParseRequest(frame(t, wire.AppendRequest(nil, &want)), &got))
		require.Equal(t, want, got)
	}
	long := wire.Request{Op: hsm.OpMAC, Data: make([]byte, wire.MaxData+1)}
	require.False(t, long.Fits())
	long = wire.Request{Op: hsm.OpFind, Label: make([]byte, 256)}
	require.False(t, long.Fits())
}

// Every shorter body, and every longer one, is refused.
func TestRequestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, r := range requests() {
		whole := frame(t, wire.AppendRequest(nil, &r))
		var got wire.Request
		for n := range whole.Body {
			require.ErrorIs(t, wire.ParseRequest(wire.Frame{Kind: whole.Kind, Body: whole.Body[:n]}, &got), wire.ErrProtocol, "%s %d", r.Op, n)
		}
		require.ErrorIs(t, wire.ParseRequest(wire.Frame{Kind: whole.Kind, Body: append(bytes.Clone(whole.Body), 0)}, &got), wire.ErrProtocol)
	}
	for _, k := range []wire.Kind{0, 13, wire.KindHello, wire.KindOK, 255} {
		require.ErrorIs(t, wire.ParseRequest(wire.Frame{Kind: k, Body: make([]byte, 64)}, new(wire.Request)), wire.ErrProtocol)
	}
}

// Errors keep their sentinels, their kind and their return value.
func TestFailuresCross(t *testing.T) {
	t.Parallel()
	for _, want := range []error{
		hsm.ErrPIN, hsm.ErrKeyNotFound, hsm.ErrTag,
		fmt.Errorf("sign: %w: %w", fault.ErrUnavailable, p11.Error(p11.CKR_DEVICE_ERROR)),
		fmt.Errorf("wait: %w: %w", fault.ErrUnavailable, context.DeadlineExceeded),
	} {
		f, err := wire.ParseFailure(frame(t, wire.AppendFailed(nil, 1, want)).Body)
		require.NoError(t, err)
		got := f.Err()
		require.Equal(t, want.Error(), got.Error())
		require.Equal(t, fault.KindOf(want), fault.KindOf(got))
		require.Equal(t, fault.Of(want).Reason, fault.Of(got).Reason)
		var rv p11.Error
		require.Equal(t, errors.As(want, &rv), errors.As(got, &rv))
		require.Equal(t, errors.Is(want, context.DeadlineExceeded), errors.Is(got, context.DeadlineExceeded))
	}
}

func TestKeysCross(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	want := []hsm.Found{
		{KeyInfo: hsm.KeyInfo{Ref: ref, ID: [16]byte{1}, Algorithm: hsm.P256, Public: &ec.PublicKey}},
		{KeyInfo: hsm.KeyInfo{Ref: ref, ID: [16]byte{2}, Algorithm: hsm.Ed25519, Public: ed}},
		{KeyInfo: hsm.KeyInfo{Ref: ref, ID: [16]byte{3}, Algorithm: hsm.AES256}, Bad: hsm.ErrTemplate},
	}
	body, err := wire.AppendKeys(nil, want)
	require.NoError(t, err)
	got, err := wire.ParseKeys(body)
	require.NoError(t, err)
	clear(body) // nothing may stand on the frame's memory
	require.Len(t, got, 3)
	for i := range want {
		require.Equal(t, want[i].KeyInfo.Key(), got[i].KeyInfo.Key())
		require.Equal(t, want[i].Bad != nil, got[i].Bad != nil)
	}
	require.ErrorIs(t, got[2].Bad, hsm.ErrTemplate)
}

func TestPINs(t *testing.T) {
	t.Parallel()
	pin, _, err := wire.ParsePIN(frame(t, wire.AppendPIN(nil, 1, []byte("1234"), nil)).Body)
	require.NoError(t, err)
	require.Equal(t, "1234", string(pin))
	_, f, err := wire.ParsePIN(frame(t, wire.AppendPIN(nil, 1, nil, hsm.ErrPIN)).Body)
	require.NoError(t, err)
	require.ErrorIs(t, f.Err(), hsm.ErrPIN)
	for _, bad := range [][]byte{nil, {0}, {2}, make([]byte, wire.MaxPIN+2), wire.AppendFailure([]byte{0}, hsm.Failure{})} {
		_, _, err := wire.ParsePIN(bad)
		require.ErrorIs(t, err, wire.ErrProtocol)
	}
}

// However the bytes arrive, the frames are the same; a claimed length costs nothing.
func TestReader(t *testing.T) {
	t.Parallel()
	stream := []byte(wire.Preamble)
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // longer than the buffer
	var want []wire.Frame
	for i := range 50 {
		f := wire.Frame{Kind: wire.KindOK, ID: uint64(i), Body: []byte(strings.Repeat("x", i*100))}
		if i == 20 || i == 30 {
			f.Body = big
		}
		want = append(want, f)
		stream = wire.Append(stream, f)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		in := wire.NewReader(r)
		require.NoError(t, in.Preamble(), name)
		for i := range want {
			got, err := in.Next()
			require.NoError(t, err, name)
			require.Equal(t, want[i].ID, got.ID)
			require.True(t, bytes.Equal(want[i].Body, got.Body))
		}
		_, err := in.Next()
		require.Equal(t, io.EOF, err, name)
	}
	for _, bad := range [][]byte{{0, 0, 0, 8}, {0, 0, 0, 0}, {1, 0, 0, 1}, {255, 255, 255, 255}} {
		_, err := wire.NewReader(bytes.NewReader(append(bad, make([]byte, 32)...))).Next()
		require.ErrorIs(t, err, wire.ErrProtocol)
	}
	_, err := wire.NewReader(bytes.NewReader([]byte{0, 255, 255, 255, 1, 2})).Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, wire.NewReader(strings.NewReader("GET / HTTP/1.1\r\n")).Preamble(), wire.ErrProtocol)
}

// A frame's memory is overwritten when the next one is asked for.
func TestReaderForgets(t *testing.T) {
	t.Parallel()
	in := wire.NewReader(bytes.NewReader(append(wire.AppendPIN(nil, 1, []byte("hunter2"), nil), wire.AppendPIN(nil, 2, nil, hsm.ErrPIN)...)))
	f, err := in.Next()
	require.NoError(t, err)
	body := f.Body
	_, err = in.Next()
	require.NoError(t, err)
	require.NotContains(t, string(body), "hunter2")
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "")
		defer f.Close()
		c, err := net.FileConn(f)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

// Nobody waits for a peer that does not read, and everything arrives in the end.
func TestWriterDoesNotWait(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	w, err := wire.NewWriter(a)
	require.NoError(t, err)
	const n = 200
	body := make([]byte, 10_000)
	for i := range n { // far more than the socket holds
		require.NoError(t, w.Send(wire.Append(nil, wire.Frame{Kind: wire.KindOK, ID: uint64(i), Body: body})))
	}
	in := wire.NewReader(b)
	for i := range n {
		f, err := in.Next()
		require.NoError(t, err)
		require.Equal(t, uint64(i), f.ID)
	}
	huge := wire.Append(nil, wire.Frame{Kind: wire.KindOK, Body: make([]byte, 15<<20)})
	err = nil
	for i := 0; i < 10 && err == nil; i++ {
		err = w.Send(huge)
	}
	require.ErrorIs(t, err, wire.ErrQueueFull)
	require.NoError(t, b.Close())
	require.NoError(t, a.Close())
	w.Wait()
	require.Error(t, w.Send(body))
}

func TestWriterTogether(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	w, err := wire.NewWriter(a)
	require.NoError(t, err)
	const callers, each = 16, 200
	for c := range callers {
		go func() {
			for i := range each {
				if w.Send(wire.Append(nil, wire.Frame{Kind: wire.KindOK, ID: uint64(c), Body: []byte{byte(i)}})) != nil {
					return
				}
			}
		}()
	}
	in, next := wire.NewReader(b), [callers]byte{}
	for range callers * each {
		f, err := in.Next()
		require.NoError(t, err)
		require.Equal(t, next[f.ID], f.Body[0], "frames of one caller stay in order")
		next[f.ID]++
	}
}

// FuzzRequest: what a parent can be made to send to a worker.
func FuzzRequest(f *testing.F) {
	for _, r := range requests() {
		f.Add(wire.AppendRequest(nil, &r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := wire.NewReader(bytes.NewReader(b))
		for {
			fr, err := in.Next()
			if err != nil {
				return
			}
			var r wire.Request
			if wire.ParseRequest(fr, &r) == nil {
				require.Equal(t, wire.Append(nil, fr), wire.AppendRequest(nil, &r), "one spelling")
			}
			_, _, _ = wire.ParsePIN(fr.Body)
			_, _ = wire.ParseHello(fr.Body)
		}
	})
}

// FuzzAnswer: what a worker that was taken over can send to its parent.
func FuzzAnswer(f *testing.F) {
	f.Add(wire.AppendFailed(nil, 9, fmt.Errorf("x: %w: %w", hsm.ErrRefused, p11.Error(p11.CKR_DATA_INVALID))))
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	keys, _ := wire.AppendKeys(nil, []hsm.Found{{KeyInfo: hsm.KeyInfo{Ref: ref, Algorithm: hsm.P256, Public: &ec.PublicKey}, Bad: hsm.ErrTemplate}})
	f.Add(wire.Append(nil, wire.Frame{Kind: wire.KindOK, ID: 1, Body: keys}))
	info, _ := wire.AppendKeyInfo(nil, hsm.KeyInfo{Ref: ref, Algorithm: hsm.P256, Public: &ec.PublicKey})
	f.Add(wire.Append(nil, wire.Frame{Kind: wire.KindOK, ID: 1, Body: info}))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := wire.NewReader(bytes.NewReader(b))
		for {
			fr, err := in.Next()
			if err != nil {
				return
			}
			if x, err := wire.ParseFailure(fr.Body); err == nil {
				require.Equal(t, string(fr.Body), string(wire.AppendFailure(nil, x)), "one spelling")
			}
			if k, err := wire.ParseKeyInfo(fr.Body); err == nil {
				again, err := wire.AppendKeyInfo(nil, k)
				require.NoError(t, err)
				require.Equal(t, fr.Body, again, "one spelling")
			}
			_, _ = wire.ParseKeys(fr.Body)
			_, _ = wire.ParseFamilies(fr.Body)
			_ = wire.ParseJSON(fr.Body, &wire.Ready{})
		}
	})
}
