package sdkconfig

// From the seed, but for those marked ours.
const (
	maxCertificates = 50
	maxServices     = 50
	maxURL          = 256        // characters
	maxName         = 255        // characters of a service's name; ours
	maxDER          = 16 << 10   // bytes of one certificate; ours
	maxText         = 2 * maxDER // characters of one certificate, line breaks included; ours
)
