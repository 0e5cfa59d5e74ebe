package pg

// MigrateFrom is Migrate with other steps.
var MigrateFrom = migrate

// MaxAttempts bounds InTx.
const MaxAttempts = maxAttempts
