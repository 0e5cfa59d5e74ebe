package operation

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example of the seed, byte for byte.
func TestQRCodeOfTheSeed(t *testing.T) {
	t.Parallel()
	const want = "b67a77d6-8308-4ffd-b6e0-9f42f36a41a7\nApprove Login\nPlease confirm the login request.\nA2\nB\n" +
		"7YLYRMvRIX0GZD94/oGPjg==\n1MEQCIDh0mCFv9uKdE7Gec+dE4WRfwDLpMltCy4hSMqMo1FwxAiAJwmzrMa6QsWeFoZEvQgRZeBd6v7e4vVw84w2bsvT7+Q=="
	q := qrCode{
		id: "b67a77d6-8308-4ffd-b6e0-9f42f36a41a7", title: "Approve Login", message: "Please confirm the login request.",
		data: "A2", flags: "B",
	}
	nonce, err := base64.StdEncoding.DecodeString("7YLYRMvRIX0GZD94/oGPjg==")
	require.NoError(t, err)
	copy(q.nonce[:], nonce)
	unsigned := q.unsigned(keyPersonalized)
	require.Equal(t, want[:strings.LastIndexByte(want, '\n')+2], string(unsigned))
	der, err := base64.StdEncoding.DecodeString(want[len(unsigned):])
	require.NoError(t, err)
	require.Equal(t, want, signedQR(unsigned, der))
}

func TestQRCodeLines(t *testing.T) {
	t.Parallel()
	q := qrCode{id: "id", title: "a\nb", message: `c\d`, data: `A1*Nx\ny`, totp: "01234567"}
	require.Equal(t, "id\na\\nb\nc\\\\d\nA1*Nx\\ny\n\n01234567\nAAAAAAAAAAAAAAAAAAAAAA==\n0", string(q.unsigned(keyMaster)))
}

// However a title looks, the lines after it stay where they are.
func FuzzQRCode(f *testing.F) {
	f.Add("Payment", "Please\nconfirm")
	f.Add(`\`, `\n`)
	f.Add("\n\n", "\\\n")
	f.Fuzz(func(t *testing.T, title, message string) {
		if !printable(title) || !printable(message) {
			return // refused before it gets here
		}
		q := qrCode{id: "id", title: title, message: message, data: "A2", flags: "BX"}
		lines := strings.Split(string(q.unsigned(keyPersonalized)), "\n")
		require.Len(t, lines, 7)
		unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n")
		require.Equal(t, title, unescape.Replace(lines[1]))
		require.Equal(t, message, unescape.Replace(lines[2]))
		require.Equal(t, []string{"A2", "BX"}, lines[3:5])
	})
}

func TestPAOP05_WrittenFormsOfTheOTP(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"9301-7407-1055-2502", "93017407-10552502", "9301740710552502"} {
		got, err := normalizeOTP(s)
		require.NoError(t, err)
		require.Equal(t, "93017407-10552502", got)
	}
	for _, s := range []string{
		"", "930174071055250", "93017407105525020", "9301-7407-10552502", "93017407-1055-2502", "9301 7407 1055 2502",
		" 9301740710552502", "9301740710552502\n", "9301-7407-1055-250x", "9301_7407_1055_2502", "9301-7407-1055-2502-", "-9301740710552502",
		"9301–7407-1055-25", "٩٣٠١٧٤٠٧", "93017407+10552502", "930174-0710552502", "930-17407-1055-2502",
	} {
		_, err := normalizeOTP(s)
		require.ErrorIs(t, err, ErrOTPForm, "%q", s)
	}
}

func FuzzNormalizeOTP(f *testing.F) {
	f.Add("9301-7407-1055-2502")
	f.Add("93017407-10552502")
	f.Add("9301740710552502")
	f.Add("93017407 10552502")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := normalizeOTP(s)
		if err != nil {
			require.Empty(t, got)
			return
		}
		require.Len(t, got, 17)
		require.Equal(t, strings.ReplaceAll(s, "-", ""), strings.ReplaceAll(got, "-", ""))
		again, err := normalizeOTP(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
