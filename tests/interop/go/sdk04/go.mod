module nexuskit.test/sdk04

go 1.23

require (
	github.com/nexus-rpc/sdk-go v0.4.0
	nexuskit.test/control v0.0.0
)

require github.com/google/uuid v1.3.0 // indirect

replace nexuskit.test/control => ../control
