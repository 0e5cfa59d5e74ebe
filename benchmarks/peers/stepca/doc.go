// Command stepca is a step-ca server for benchmarks/issue to be held against: its
// API and authority as smallstep ships them, an intermediate key on the given
// SoftHSM token through its own PKCS#11 KMS, badger as its database (the default,
// every write synced), and one JWK provisioner.
//
// It has a module of its own, so that nothing of it reaches the product's. It
// makes the key and the certificates on its first start in DIR, prints
// "ready ADDRESS" and serves until it is interrupted. DIR holds root.pem and
// provisioner.json (the private JWK: a client makes its one-time tokens itself).
package main
