package ceremony

// Start is Run with a clock of the test's.
var Start = start
