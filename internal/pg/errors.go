package pg

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/fault"
)

// SQLSTATE codes the domains and InTx care about.
const (
	codeUniqueViolation      = "23505"
	codeSerializationFailure = "40001"
	codeDeadlock             = "40P01"
	codeUndefinedTable       = "42P01"
)

// Unavailable marks err as an outage of the database: no verdict was reached. It
// leaves nil and an error that already carries a *fault.Error as they are, so a
// domain may pass everything that leaves its SQL through it.
func Unavailable(err error) error {
	if err == nil || fault.Of(err) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
}

// IsUnique reports whether err is the violation of the named unique constraint
// or index; "" matches any.
func IsUnique(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == codeUniqueViolation &&
		(constraint == "" || pgErr.ConstraintName == constraint)
}

// IsUndefinedTable reports whether a statement named a table that is not there.
func IsUndefinedTable(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == codeUndefinedTable
}

// retryable reports whether PostgreSQL undid the transaction only because of
// others and asks for it to be run again.
func retryable(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) &&
		(pgErr.Code == codeSerializationFailure || pgErr.Code == codeDeadlock)
}
