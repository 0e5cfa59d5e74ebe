package powerauth

import "github.com/signet-hsm/signet/api/internal/rest"

// Routes is the application tiers' table without a base path.
func Routes() []rest.Route { return cloudRoutes("", &handlers{}) }

// DeviceRoutes is the devices' table.
func DeviceRoutes() []rest.Route { return deviceRoutes(&handlers{}) }
