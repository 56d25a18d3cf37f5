module nexuskit.test/control

go 1.23
