module github.com/websopy/relay

go 1.26.0
