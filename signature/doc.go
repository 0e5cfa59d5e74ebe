// Package signature is the PowerAuth 3.x kernel.
package signature
