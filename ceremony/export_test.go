package ceremony

// Start is Run with a clock of the test's.
var Start = start

// RehearseInMemory is the part of Execute that needs no token.
var RehearseInMemory = rehearse
