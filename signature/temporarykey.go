package signature

// TemporaryKeySecret is the HS256 key of a request for a temporary key in
// activation scope. Here, and only here, the application secret is the 16 bytes
// and not their Base64 text; in application scope they are the HS256 key as they
// are.
func (k *Keys) TemporaryKeySecret(secret []byte) [16]byte {
	return kdfInternal(&k.transport, secret)
}
