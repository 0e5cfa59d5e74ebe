package powerauth

import "github.com/signet-hsm/signet/api/internal/rest"

// all has every optional domain, so that the tables are whole.
var all = &handlers{
	applications: struct{ Applications }{}, users: struct{ Users }{}, audit: struct{ Audit }{}, operations: struct{ Operations }{},
	tokens: struct{ Tokens }{}, push: struct{ Push }{}, callbacks: struct{ Callbacks }{},
}

// Routes is the application tiers' whole table, without a base path.
func Routes() []rest.Route { return cloudRoutes("", all) }

// DeviceRoutes is the devices' table.
func DeviceRoutes() []rest.Route { return deviceRoutes(all) }

// MobileRoutes is the mobile token API's table.
func MobileRoutes() []rest.Route { return mobileRoutes(all) }

// The hand-written answers, and the names in them.
var (
	SignatureAnswer = signatureAnswer
	TokenAnswer     = tokenAnswer
	SignatureType   = signatureType
)
