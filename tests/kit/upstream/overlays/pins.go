//go:build pins

// Today's overlays for bench/peers, beside those that Debian ships.
package overlays

import (
	_ "github.com/yggdrasil-network/yggdrasil-go/cmd/yggdrasil"
	_ "golang.zx2c4.com/wireguard"
)
