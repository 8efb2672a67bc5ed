package handler

import "golang.org/x/sys/unix"

// unsentOf is how many bytes of a socket wait to be acknowledged (man 7 tcp, SIOCOUTQ).
func unsentOf(fd uintptr) (n int, ok bool) {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	return n, err == nil
}
