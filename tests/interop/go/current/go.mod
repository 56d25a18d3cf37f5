module nexuskit.test/current

go 1.26.8

require (
	github.com/nexus-rpc/sdk-go v0.7.0
	go.temporal.io/server v1.32.1
	nexuskit.test/control v0.0.0
)

require github.com/google/uuid v1.6.0 // indirect

replace nexuskit.test/control => ../control
