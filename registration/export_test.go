package registration

// OfflineDigits lets the fuzzer at the parser.
var OfflineDigits = offlineDigits

// ParseTemporaryRequest reports whether s is a request for a temporary key.
func ParseTemporaryRequest(s string) bool {
	_, _, err := parseTemporaryRequest(s)
	return err == nil
}
