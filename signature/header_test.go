package signature

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testdata/java.json holds random input with what Java 17 makes of it: the
// header expression of the reference, java.util.Base64, and URLDecoder, String
// order and URLEncoder joined as in PowerAuthRequestCanonizationUtils. "ERR" is
// an exception, "NULL" no data.
func TestAgreesWithJava(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/java.json")
	require.NoError(t, err)
	var rows struct {
		Pairs []struct {
			In  string
			Out []string
		}
		Base64, Get []struct{ In, Out string }
	}
	require.NoError(t, json.Unmarshal(text, &rows))
	require.Len(t, rows.Pairs, 200)
	for _, row := range rows.Pairs {
		var got []string
		for p := newPairs(row.In); ; {
			k, v, ok := p.next()
			if !ok {
				break
			}
			got = append(got, k, v)
		}
		require.Equal(t, row.Out, got, "%q", row.In)
	}
	require.Len(t, rows.Base64, 200)
	for _, row := range rows.Base64 {
		b, err := ParseBase64(row.In)
		got := hex.EncodeToString(b)
		if err != nil {
			got = "ERR"
		}
		require.Equal(t, row.Out, got, "%q", row.In)
	}
	require.Len(t, rows.Get, 200)
	for _, row := range rows.Get {
		b, err := NormalizeRawGET(row.In)
		got := string(b)
		if err != nil {
			got = "ERR"
		}
		require.Equal(t, row.Out, got, "%q", row.In)
	}
}

// without drops one pair of a header; with changes its value.
func without(header, key string) string {
	var kept []string
	for _, pair := range strings.Split(strings.TrimPrefix(header, headerPrefix), ", ") {
		if !strings.HasPrefix(pair, key+"=") {
			kept = append(kept, pair)
		}
	}
	return headerPrefix + strings.Join(kept, ", ")
}

func with(header, key, value string) string {
	return header + ", " + key + `="` + value + `"` // the last one wins
}

func TestSignatureHeaderRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header string
		want         error
	}{
		{"good", seedHeader, nil},
		{"spaces around", "\t " + seedHeader + " \n", nil},
		{"two spaces after the scheme", strings.Replace(seedHeader, " ", "  ", 1), nil},
		{"type in capitals", with(seedHeader, "pa_signature_type", "POSSESSION_Knowledge"), nil},
		{"unknown pairs", with(seedHeader, "pa_other", "x"), nil},
		{"no id", without(seedHeader, "pa_activation_id"), ErrActivationIDEmpty},
		{"id of version 6", with(seedHeader, "pa_activation_id", "908d325b-52b4-665b-8644-23cfa3604200"), ErrActivationIDInvalid},
		{"id of another variant", with(seedHeader, "pa_activation_id", "908d325b-52b4-465b-c644-23cfa3604200"), ErrActivationIDInvalid},
		{"id without dash", with(seedHeader, "pa_activation_id", "908d325b052b4-465b-8644-23cfa3604200"), ErrActivationIDInvalid},
		{"no nonce", without(seedHeader, "pa_nonce"), ErrNonceEmpty},
		{"short nonce", with(seedHeader, "pa_nonce", "AAAA"), ErrNonceInvalid},
		{"nonce of 17 bytes", with(seedHeader, "pa_nonce", strings.Repeat("A", 23)), ErrNonceInvalid},
		{"no type", without(seedHeader, "pa_signature_type"), ErrTypeEmpty},
		{"Kelvin sign for k", with(seedHeader, "pa_signature_type", "possession_\u212Anowledge"), ErrTypeInvalid},
		{"no signature", without(seedHeader, "pa_signature"), ErrSignatureEmpty},
		{"signature of 9 digits", with(seedHeader, "pa_signature", "123456789"), ErrSignatureInvalid},
		{"dash in the wrong place", with(seedHeader, "pa_signature", "1234567-123456789"), ErrSignatureInvalid},
		{"no application", without(seedHeader, "pa_application_key"), ErrApplicationEmpty},
		{"bad application", with(seedHeader, "pa_application_key", "3rQw-ucVFWLK34nkkQwZ7Q=="), ErrApplicationInvalid},
		{"no version", without(seedHeader, "pa_version"), ErrVersionEmpty},
		{"version 3.4", with(seedHeader, "pa_version", "3.4"), ErrVersionInvalid},
		{"version 4.0", with(seedHeader, "pa_version", "4.0"), ErrVersionInvalid},
		{"id before the rest", without(without(seedHeader, "pa_nonce"), "pa_activation_id"), ErrActivationIDEmpty},
		{"unquoted value keeps its comma", strings.Replace(seedHeader, `pa_version="3.1",`, `pa_version=3.1,`, 1), ErrVersionInvalid},
		{"space after =", strings.Replace(seedHeader, `pa_nonce="`, `pa_nonce= "`, 1), ErrNonceEmpty},
		{"no scheme", strings.TrimPrefix(seedHeader, headerPrefix), ErrActivationIDEmpty},
	} {
		_, err := ParseHeader(tc.header)
		if tc.want == nil {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorIs(t, err, tc.want, tc.name)
	}
}

func TestTokenHeaderRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header string
		want         error
	}{
		{"good", seedToken, nil},
		{"version under its other name", strings.Replace(seedToken, "version", "pa_version", 1), nil},
		{"no id", without(seedToken, "token_id"), ErrTokenIDEmpty},
		{"bad id", with(seedToken, "token_id", "1"), ErrTokenIDInvalid},
		{"no digest", without(seedToken, "token_digest"), ErrTokenDigestEmpty},
		{"digest of 16 bytes", with(seedToken, "token_digest", "9Bu5TYmJsXi+r1CA/jM08Q=="), ErrTokenDigestInvalid},
		{"no nonce", without(seedToken, "nonce"), ErrTokenNonceEmpty},
		{"bad nonce", with(seedToken, "nonce", "?"), ErrTokenNonceInvalid},
		{"no time", without(seedToken, "timestamp"), ErrTokenTimeEmpty},
		{"time of 8 digits", with(seedToken, "timestamp", "12345678"), ErrTokenTimeInvalid},
		{"time of 16 digits", with(seedToken, "timestamp", "1234567890123456"), ErrTokenTimeInvalid},
		{"time with a sign", with(seedToken, "timestamp", "-1700000000000"), ErrTokenTimeInvalid},
		{"no version", without(seedToken, "version"), ErrTokenVersionEmpty},
		{"version 2.1", with(seedToken, "version", "2.1"), ErrTokenVersionInvalid},
	} {
		_, err := ParseTokenHeader(tc.header)
		if tc.want == nil {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorIs(t, err, tc.want, tc.name)
	}
}

func TestEncryptionHeaderRules(t *testing.T) {
	t.Parallel()
	application := without(seedEncryption, "activation_id")
	for _, tc := range []struct {
		name, header string
		scope        Scope
		want         error
	}{
		{"activation", seedEncryption, ActivationScope, nil},
		{"application", application, ApplicationScope, nil},
		{"no key", without(application, "application_key"), ApplicationScope, ErrEncryptionAppEmpty},
		{"bad key", with(application, "application_key", "AA"), ApplicationScope, ErrEncryptionAppInvalid},
		{"id missing", application, ActivationScope, ErrEncryptionIDMissing},
		{"bad id", with(application, "activation_id", "1"), ActivationScope, ErrEncryptionIDInvalid},
		{"id too many", seedEncryption, ApplicationScope, ErrEncryptionIDExtra},
		{"no version", without(application, "version"), ApplicationScope, ErrEncryptionNoVersion},
		{"version 4.0", with(application, "version", "4.0"), ApplicationScope, ErrEncryptionVersion},
	} {
		_, err := ParseEncryptionHeader(tc.header, tc.scope)
		if tc.want == nil {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorIs(t, err, tc.want, tc.name)
	}
}

func TestNormalizeGETFromAMap(t *testing.T) {
	t.Parallel()
	require.Nil(t, NormalizeGET(nil))
	require.Nil(t, NormalizeGET(map[string]string{}))
	// The values are decoded already and are encoded exactly once.
	require.Equal(t, "%3D%26=%2520+%2B&a=&b=%C5%BE", string(NormalizeGET(map[string]string{
		"b": "ž", "a": "", "=&": "%20 +",
	})))
	// Surrogates sort below U+E000..U+FFFF, as in UTF-16.
	require.Equal(t, "%F0%9F%98%80=1&%EF%BF%BF=2", string(NormalizeGET(map[string]string{
		"\uffff": "2", "\U0001F600": "1",
	})))
}

func TestBaseStringDefaults(t *testing.T) {
	t.Parallel()
	require.Equal(t, "GET&&&&", string(AppendBaseString(nil, Request{})))
	require.Equal(t, "x:PUT&L2E=&AQ==&Ag==&offline", string(AppendBaseString([]byte("x:"), Request{
		Method: "pUt", URIID: "/a", Nonce: []byte{1}, Body: []byte{2}, Secret: []byte(OfflineSecret),
	})))
	long := strings.Repeat("/ab", 50)
	require.Equal(t, "GET&"+EncodeBase64([]byte(long))+"&&&", string(AppendBaseString(nil, Request{URIID: long})))
}

// Headers come from anyone: their cost must grow with their length only.
func TestHeaderScanIsLinear(t *testing.T) {
	t.Parallel()
	for _, piece := range []string{`a="`, `a=`, `a`, `"`, `a=" `, `a="" `, `a= `, ` `, `,`, `a="b" `} {
		long := headerPrefix + strings.Repeat(piece, 1<<20)
		start := time.Now()
		_, err := ParseHeader(long)
		require.ErrorIs(t, err, ErrActivationIDEmpty)
		require.Less(t, time.Since(start), 2*time.Second, piece) // quadratic would be hours
	}
}
