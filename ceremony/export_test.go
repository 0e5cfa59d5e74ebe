package ceremony

// Start is Run with a clock of the test's.
var Start = start

// Rehearse is the part of Run that needs no token.
var Rehearse = rehearse
