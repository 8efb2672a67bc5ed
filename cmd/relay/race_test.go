//go:build race

package main_test

const (
	raceEnabled   = true
	memoryOfRaces = 3 // what a process takes, compared with one without the detector
)
