package registration

// OfflineDigits lets the fuzzer at the parser.
var OfflineDigits = offlineDigits
