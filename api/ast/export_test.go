package ast

import "github.com/signet-hsm/signet/api/internal/rest"

// Routes is the table.
func Routes() []rest.Route { return routes(&handlers{}) }
