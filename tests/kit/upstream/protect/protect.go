// Package protect is what yggdrasil imports of suah.dev/protect. That calls pledge and unveil of OpenBSD, and does nothing elsewhere.
package protect

func Pledge(promises string) error          { return nil }
func Unveil(path string, flags string) error { return nil }
func UnveilBlock() error                     { return nil }
