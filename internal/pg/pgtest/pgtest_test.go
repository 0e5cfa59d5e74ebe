package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	for range 3 {
		t.Run("one", func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			_, err := pool.Exec(t.Context(), `insert into tenant (id) values ('gamma')`)
			require.NoError(t, err)
			rows, err := pool.Query(t.Context(), `select id from tenant order by id`)
			require.NoError(t, err)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.Equal(t, []string{"_system", "alpha", "beta", "gamma"}, ids)
		})
	}
}

// BenchmarkNew is what a test pays for its pool, closing and dropping included.
func BenchmarkNew(b *testing.B) {
	pgtest.New(b)
	for b.Loop() {
		b.Run("one", func(b *testing.B) { pgtest.New(b) })
	}
}
