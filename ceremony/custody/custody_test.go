package custody_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/internal/secret"
)

func crowd(t testing.TB, names ...string) (keys []*custody.Key, people []custody.Person) {
	t.Helper()
	for _, n := range names {
		k, err := custody.NewKey(n)
		require.NoError(t, err)
		keys, people = append(keys, k), append(people, k.Person("custodian"))
	}
	return keys, people
}

func pin() secret.Bytes { return secret.New([]byte("93127731")) }

// Every set of custodians: at the threshold it opens, below it does not and says
// who is missing.
func TestThreshold(t *testing.T) {
	t.Parallel()
	keys, people := crowd(t, "Ada", "Bob", "Cyd", "Dan")
	sealed, err := custody.Seal("PIN", pin(), 3, people)
	require.NoError(t, err)
	for set := range 1 << len(keys) {
		var here []*custody.Key
		for i, k := range keys {
			if set&(1<<i) != 0 {
				here = append(here, k)
			}
		}
		got, err := sealed.Open(here)
		if len(here) >= 3 {
			require.NoError(t, err)
			require.True(t, got.Equal(pin().Reveal()))
			continue
		}
		require.ErrorIs(t, err, custody.ErrShares)
		for i, k := range keys {
			if set&(1<<i) == 0 {
				require.ErrorContains(t, err, k.Name)
			}
		}
	}
	// One custodian twice is one custodian.
	_, err = sealed.Open([]*custody.Key{keys[0], keys[0], keys[0]})
	require.ErrorContains(t, err, "1 of the 3 needed")
}

func TestWrongSharesAreNamed(t *testing.T) {
	t.Parallel()
	keys, people := crowd(t, "Ada", "Bob", "Cyd")
	sealed, err := custody.Seal("PIN", pin(), 2, people)
	require.NoError(t, err)
	other, err := custody.Seal("PIN", pin(), 2, people)
	require.NoError(t, err)
	for _, k := range keys {
		require.NoError(t, sealed.Check(k))
	}
	impostor, _ := crowd(t, "Bob", "Eve")
	require.ErrorContains(t, sealed.Check(impostor[0]), "the share of custodian Bob is not for this key")
	require.ErrorContains(t, sealed.Check(impostor[1]), "Eve is not one of its custodians")

	sealed.Shares[1].Share = other.Shares[1].Share // Bob's, of another day
	_, err = sealed.Open(keys)
	require.ErrorIs(t, err, custody.ErrShares)
	require.ErrorContains(t, err, "the share of custodian Bob is wrong")
	got, err := sealed.Open([]*custody.Key{keys[0], keys[2]}) // without him it opens
	require.NoError(t, err)
	require.True(t, got.Equal(pin().Reveal()))
	sealed.Shares[1].Share = bytes.Clone(other.Shares[1].Share)
	sealed.Shares[1].Share[len(sealed.Shares[1].Share)-1] ^= 1
	require.ErrorContains(t, sealed.Check(keys[1]), "custodian Bob is damaged")
}

func TestSealedFile(t *testing.T) {
	t.Parallel()
	keys, people := crowd(t, "Ada", "Bob")
	sealed, err := custody.Seal("PIN", pin(), 2, people)
	require.NoError(t, err)
	content, err := sealed.Marshal()
	require.NoError(t, err)
	require.NotContains(t, string(content), string(pin().Reveal()))
	again, err := custody.Parse(content)
	require.NoError(t, err)
	got, err := again.Open(keys)
	require.NoError(t, err)
	require.True(t, got.Equal(pin().Reveal()))
	// Whatever is changed, the secret does not come out.
	for i := 0; i < len(content); i += 7 {
		bad := bytes.Clone(content)
		bad[i] ^= 1
		if s, err := custody.Parse(bad); err == nil {
			_, err = s.Open(keys)
			require.Error(t, err, "byte %d", i)
		}
	}
	for _, c := range []struct{ threshold, of int }{{0, 2}, {3, 2}, {1, 0}} {
		_, err := custody.Seal("PIN", pin(), c.threshold, people[:c.of])
		require.ErrorIs(t, err, custody.ErrSealed)
	}
	_, err = custody.Seal("PIN", pin(), 2, []custody.Person{people[0], people[0]})
	require.ErrorContains(t, err, "Ada is a custodian twice")
	_, err = custody.Seal("PIN", secret.Bytes{}, 1, people)
	require.ErrorIs(t, err, custody.ErrSealed)
}

func FuzzParse(f *testing.F) {
	_, people := crowd(f, "Ada", "Bob")
	sealed, err := custody.Seal("PIN", pin(), 2, people)
	require.NoError(f, err)
	content, err := sealed.Marshal()
	require.NoError(f, err)
	f.Add(content)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := custody.Parse(content)
		if err != nil {
			require.ErrorIs(t, err, custody.ErrSealed)
			return
		}
		again, err := s.Marshal()
		require.NoError(t, err)
		require.Equal(t, content, again)
	})
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, people := crowd(t, "Ada Lovelace")
	path := filepath.Join(dir, "ada.key")
	require.NoError(t, keys[0].Write(path, secret.Bytes{}))
	require.ErrorIs(t, keys[0].Write(path, secret.Bytes{}), os.ErrExist)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	got, err := custody.ReadKey(t.Context(), path)
	require.NoError(t, err)
	require.True(t, got.Is(&people[0]))
	public, err := people[0].PublicKey()
	require.NoError(t, err)
	require.True(t, ed25519.Verify(public, []byte("m"), got.Sign([]byte("m"))))
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = custody.ReadKey(t.Context(), path)
	require.ErrorContains(t, err, "open to others")

	sealed := filepath.Join(dir, "sealed.key")
	require.NoError(t, keys[0].Write(sealed, secret.New([]byte("a long passphrase"))))
	content, err := os.ReadFile(sealed)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(content, []byte("age-encryption.org/v1")))

	junk := filepath.Join(dir, "junk.key")
	require.NoError(t, os.WriteFile(junk, []byte("signet-ceremony-key-1 Ada\nsign x\nshare y\n"), 0o600))
	_, err = custody.ReadKey(t.Context(), junk)
	require.ErrorIs(t, err, custody.ErrPerson)
	_, err = custody.NewKey("a\nb")
	require.ErrorIs(t, err, custody.ErrPerson)
	for _, bad := range []custody.Person{{}, {Name: "x"}, {Name: "x", Sign: people[0].Sign}, {Name: "x", Share: people[0].Share}} {
		require.ErrorIs(t, bad.Validate(), custody.ErrPerson)
	}
}
