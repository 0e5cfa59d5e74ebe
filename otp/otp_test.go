package otp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/testvec"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestVectorRFC4226(t *testing.T) {
	t.Parallel()
	v := testvec.JSON[struct {
		Key     string `json:"key_hex"`
		Digits  int
		Vectors []struct {
			Counter uint64
			OTP     string
		}
	}](t, "oath/rfc4226.json")
	require.Len(t, v.Vectors, 10)
	key := unhex(t, v.Key)
	for _, row := range v.Vectors {
		got, err := Scheme{}.HOTP(key, row.Counter)
		require.NoError(t, err)
		require.Equal(t, row.OTP, got)
		next, ok, err := Scheme{Digits: v.Digits}.VerifyHOTP(key, 0, 10, row.OTP)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, row.Counter+1, next)
		_, ok, err = Scheme{}.VerifyHOTP(key, row.Counter+1, 10, row.OTP)
		require.NoError(t, err)
		require.False(t, ok, "a used counter")
		_, ok, _ = Scheme{}.VerifyHOTP(key, 0, int(row.Counter), row.OTP)
		require.False(t, ok, "outside of the window")
	}
}

func TestVectorRFC6238(t *testing.T) {
	t.Parallel()
	v := testvec.JSON[struct {
		Keys    map[string]string `json:"keys_hex"`
		Vectors []struct {
			Unix                 int64
			SHA1, SHA256, SHA512 string
		}
	}](t, "oath/rfc6238.json")
	require.Len(t, v.Vectors, 6)
	for _, row := range v.Vectors {
		for i, want := range []string{row.SHA1, row.SHA256, row.SHA512} {
			h := Hash(i)
			totp := TOTP{Scheme: Scheme{h, 8}}
			requireTOTP(t, totp, unhex(t, v.Keys[strings.ToLower(h.String())]), time.Unix(row.Unix, 0), want)
		}
	}
}

// requireTOTP checks a password of a moment, its window and a changed one.
func requireTOTP(t *testing.T, totp TOTP, key []byte, at time.Time, want string) {
	t.Helper()
	got, err := totp.At(key, at)
	require.NoError(t, err)
	require.Equal(t, want, got)
	step := uint64(at.Unix() / 30)
	for _, tc := range []struct {
		shift       time.Duration
		back, ahead int
		ok          bool
	}{
		{0, 0, 0, true},
		{30 * time.Second, 1, 0, true},
		{30 * time.Second, 0, 5, false},
		{-30 * time.Second, 0, 1, true},
		{-30 * time.Second, 5, 0, false},
		{90 * time.Second, 3, 3, true},
		{120 * time.Second, 3, 3, false},
		{0, -1, -1, false},
	} {
		matched, ok, err := totp.Verify(key, at.Add(tc.shift), tc.back, tc.ahead, want)
		if at.Add(tc.shift).Unix() < 0 {
			require.ErrorIs(t, err, ErrTime)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tc.ok, ok, "%v", tc)
		if ok {
			require.Equal(t, step, matched)
		}
	}
	wrong := []byte(want)
	wrong[0] = '0' + (wrong[0]-'0'+1)%10
	_, ok, err := totp.Verify(key, at, 0, 0, string(wrong))
	require.NoError(t, err)
	require.False(t, ok)
}

func TestVectorPowerAuthProximity(t *testing.T) {
	t.Parallel()
	v := testvec.JSON[struct {
		Data []struct {
			Input struct {
				Seed        []byte
				UnixSeconds int64
			}
			Output string
		}
	}](t, "powerauth/generated/proximity-totp.json")
	require.Len(t, v.Data, 30)
	for _, row := range v.Data {
		requireTOTP(t, Proximity, row.Input.Seed, time.Unix(row.Input.UnixSeconds, 0), row.Output)
	}
}

func TestVectorPowerAuthTOTP(t *testing.T) {
	t.Parallel()
	lines := bufio.NewScanner(bytes.NewReader(testvec.Read(t, "powerauth/misc/totp.csv")))
	rows := 0
	for lines.Scan() {
		f := strings.Split(lines.Text(), ",")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		seconds, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil { // the headline
			continue
		}
		h := map[string]Hash{"HmacSHA256": SHA256, "HmacSHA512": SHA512}[f[4]]
		require.NotZero(t, h)
		requireTOTP(t, TOTP{Scheme: Scheme{h, 8}}, unhex(t, f[5]), time.Unix(seconds, 0), f[3])
		rows++
	}
	require.Equal(t, 12, rows)
}

func TestVectorRFC6287(t *testing.T) {
	t.Parallel()
	v := testvec.JSON[struct {
		Vectors []struct {
			Suite string
			Key   string `json:"key_hex"`
			C     uint64
			Q, P  string
			T     int64
			OTP   string
		}
	}](t, "oath/rfc6287.json")
	require.Len(t, v.Vectors, 65)
	suites := map[string]bool{}
	for _, row := range v.Vectors {
		u, err := ParseSuite(row.Suite)
		require.NoError(t, err)
		suites[u.String()] = true
		in := Input{Counter: row.C, Question: row.Q, PINHash: u.HashPIN([]byte(row.P))}
		if row.T != 0 { // minutes
			in.Time = time.Unix(row.T*60+59, 0)
		}
		key := unhex(t, row.Key)
		got, err := u.Compute(key, in)
		require.NoError(t, err)
		require.Equal(t, row.OTP, got, "%s %s", row.Suite, row.Q)
		ok, err := u.Verify(key, in, row.OTP)
		require.NoError(t, err)
		require.True(t, ok)
		ok, err = u.Verify(key, in, row.OTP[1:])
		require.NoError(t, err)
		require.False(t, ok)
		in.Question = row.Q + "1"
		got, err = u.Compute(key, in)
		require.NoError(t, err)
		require.NotEqual(t, row.OTP, got)
	}
	require.Len(t, suites, 8)
}

func TestSchemesAreChecked(t *testing.T) {
	t.Parallel()
	key := make([]byte, MinKey)
	for _, s := range []Scheme{{Digits: 3}, {Digits: 11}, {Digits: -1}, {Hash: 3}} {
		_, err := s.HOTP(key, 0)
		require.ErrorIs(t, err, ErrScheme)
		_, _, err = TOTP{Scheme: s}.Verify(key, time.Unix(0, 0), 0, 0, "")
		require.ErrorIs(t, err, ErrScheme)
	}
	_, err := Scheme{}.HOTP(key[1:], 0)
	require.ErrorIs(t, err, ErrKey)
	_, _, err = Scheme{}.VerifyHOTP(nil, 0, 1, "")
	require.ErrorIs(t, err, ErrKey)
	require.Empty(t, Hash(9).String())
	for _, step := range []time.Duration{-time.Second, time.Millisecond, 1500 * time.Millisecond} {
		_, err := TOTP{Step: step}.At(key, time.Unix(0, 0))
		require.ErrorIs(t, err, ErrTime)
	}
	_, err = TOTP{}.At(key, time.Unix(-1, 0))
	require.ErrorIs(t, err, ErrTime)
	ten, err := Scheme{Digits: 10}.HOTP(key, 1)
	require.NoError(t, err)
	require.Len(t, ten, 10)

	last, err := Scheme{}.HOTP(key, math.MaxUint64)
	require.NoError(t, err)
	_, ok, err := Scheme{}.VerifyHOTP(key, math.MaxUint64, 5, last)
	require.NoError(t, err)
	require.False(t, ok, "the counter must not wrap")
}

func TestSuitesAreChecked(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"OCRA-1:HOTP-SHA1-4:QN04", "OCRA-1:HOTP-SHA512-10:C-QH64-PSHA512-S512-T48H", "OCRA-1:HOTP-SHA1-6:QA10-T59S",
		"OCRA-1:HOTP-SHA1-6:QA10-S001",
	} {
		u, err := ParseSuite(s)
		require.NoError(t, err, s)
		require.Equal(t, s, u.String())
	}
	for _, s := range []string{
		"", "OCRA-2:HOTP-SHA1-6:QN08", "OCRA-1:TOTP-SHA1-6:QN08", "OCRA-1:HOTP-MD5-6:QN08", "OCRA-1:HOTP-SHA1-0:QN08",
		"OCRA-1:HOTP-SHA1-3:QN08", "OCRA-1:HOTP-SHA1-11:QN08", "OCRA-1:HOTP-SHA1-06:QN08", "OCRA-1:HOTP-SHA1:QN08",
		"OCRA-1:HOTP-SHA1-6:C", "OCRA-1:HOTP-SHA1-6:QX08", "OCRA-1:HOTP-SHA1-6:QN03", "OCRA-1:HOTP-SHA1-6:QN65",
		"OCRA-1:HOTP-SHA1-6:QN8", "OCRA-1:HOTP-SHA1-6:C1-QN08", "OCRA-1:HOTP-SHA1-6:QN08-PMD5", "OCRA-1:HOTP-SHA1-6:QN08-S1",
		"OCRA-1:HOTP-SHA1-6:QN08-S513", "OCRA-1:HOTP-SHA1-6:QN08-T", "OCRA-1:HOTP-SHA1-6:QN08-T60S", "OCRA-1:HOTP-SHA1-6:QN08-T0M",
		"OCRA-1:HOTP-SHA1-6:QN08-T49H", "OCRA-1:HOTP-SHA1-6:QN08-T1D", "OCRA-1:HOTP-SHA1-6:QN08-T1M-PSHA1", "OCRA-1:HOTP-SHA1-6:QN08-",
		"OCRA-1:HOTP-SHA1-6:QN08:x",
	} {
		_, err := ParseSuite(s)
		require.ErrorIs(t, err, ErrSuite, s)
	}
}

func TestInputMustFitTheSuite(t *testing.T) {
	t.Parallel()
	key := make([]byte, 20)
	full, err := ParseSuite("OCRA-1:HOTP-SHA256-8:C-QH08-PSHA1-S004-T1M")
	require.NoError(t, err)
	bare, err := ParseSuite("OCRA-1:HOTP-SHA1-6:QN08")
	require.NoError(t, err)
	require.Nil(t, bare.HashPIN([]byte("1234")))
	good := Input{Counter: 1, Question: "abc", PINHash: full.HashPIN([]byte("1")), Session: []byte{1}, Time: time.Unix(60, 0)}
	want, err := full.Compute(key, good)
	require.NoError(t, err)
	padded := good
	padded.Session = []byte{0, 0, 0, 1}
	got, err := full.Compute(key, padded)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for name, change := range map[string]func(*Input){
		"no question":   func(in *Input) { in.Question = "" },
		"no hex":        func(in *Input) { in.Question = "xyz" },
		"long question": func(in *Input) { in.Question = strings.Repeat("a", 129) },
		"no pin":        func(in *Input) { in.PINHash = nil },
		"long pin hash": func(in *Input) { in.PINHash = make([]byte, 32) },
		"long session":  func(in *Input) { in.Session = make([]byte, 5) },
		"no time":       func(in *Input) { in.Time = time.Time{} },
	} {
		in := good
		change(&in)
		_, err := full.Compute(key, in)
		require.ErrorIs(t, err, ErrInput, name)
	}
	early := good
	early.Time = time.Unix(-1, 0)
	_, err = full.Compute(key, early)
	require.ErrorIs(t, err, ErrTime)
	for name, in := range map[string]Input{
		"counter":    {Question: "1", Counter: 1},
		"pin":        {Question: "1", PINHash: make([]byte, 20)},
		"session":    {Question: "1", Session: []byte{1}},
		"time":       {Question: "1", Time: time.Unix(1, 0)},
		"no decimal": {Question: "1a"},
	} {
		_, err := bare.Compute(key, in)
		require.ErrorIs(t, err, ErrInput, name)
	}
	_, err = bare.Compute(key[:5], Input{Question: "1"})
	require.ErrorIs(t, err, ErrKey)
	alpha, err := ParseSuite("OCRA-1:HOTP-SHA1-6:QA08")
	require.NoError(t, err)
	_, err = alpha.Compute(key, Input{Question: "\x01"})
	require.ErrorIs(t, err, ErrInput)
}

func FuzzParseSuite(f *testing.F) {
	f.Add("OCRA-1:HOTP-SHA256-8:C-QN08-PSHA1", "12345678")
	f.Add("OCRA-1:HOTP-SHA1-6:QA08-S064-T1H", "SIG14000")
	f.Add("OCRA-1:HOTP-SHA512-10:QH64", "abc")
	f.Add("OCRA-1::", "")
	f.Fuzz(func(t *testing.T, suite, question string) {
		u, err := ParseSuite(suite)
		if err != nil {
			require.ErrorIs(t, err, ErrSuite)
			return
		}
		require.Equal(t, suite, u.String())
		in := Input{Question: question, PINHash: u.HashPIN(nil)}
		if u.step != 0 {
			in.Time = time.Unix(1, 0)
		}
		code, err := u.Compute(make([]byte, 32), in)
		if err != nil {
			require.ErrorIs(t, err, ErrInput)
			return
		}
		require.Len(t, code, u.scheme.Digits)
	})
}

func BenchmarkProximityVerify(b *testing.B) {
	key, at := make([]byte, 16), time.Unix(1700000000, 0)
	code, err := Proximity.At(key, at)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, _ := Proximity.Verify(key, at, 1, 0, code); !ok {
			b.Fatal("no match")
		}
	}
}
