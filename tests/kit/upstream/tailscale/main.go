// Control server and DERP relay of a Tailscale network for bench/peers: those of Tailscale's own tests, for its product needs an account.
//
//	tailscale-control ADDRESS RELAY
//
// ADDRESS is where the nodes reach both: control at port 8080, DERP over TLS at 8443, STUN at 3478. RELAY true: nodes may relay for their
// peers. What they believe of the DERP server is the digest of its certificate.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

const (
	controlPort = 8080
	derpPort    = 8443
	stunPort    = 3478
)

func certificate(address string) (tls.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: address},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.ParseIP(address)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: tailscale-control ADDRESS RELAY")
	}
	address, relay := os.Args[1], os.Args[2] == "true"
	cert, err := certificate(address)
	if err != nil {
		log.Fatal(err)
	}
	quiet := func(string, ...any) {}
	derp := &http.Server{
		Addr:    fmt.Sprintf(":%d", derpPort),
		Handler: derpserver.Handler(derpserver.New(key.NewNode(), quiet)),
		// DERP takes over the connection, which HTTP/2 does not allow
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() { log.Fatal(derp.ListenAndServeTLS("", "")) }()
	go func() { log.Fatal(stunserver.New(context.Background()).ListenAndServe(fmt.Sprintf(":%d", stunPort))) }()
	node := &tailcfg.DERPNode{
		Name: "1", RegionID: 1, HostName: address, IPv4: address, IPv6: "none", DERPPort: derpPort, STUNPort: stunPort,
		CertName: fmt.Sprintf("sha256-raw:%x", sha256.Sum256(cert.Certificate[0])),
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "cloud", Nodes: []*tailcfg.DERPNode{node}}
	control := &testcontrol.Server{
		Logf:             quiet,
		DERPMap:          &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}},
		ExplicitBaseURL:  fmt.Sprintf("http://%s:%d", address, controlPort),
		AllNodesSameUser: true,
		AllOnline:        true,
		PeerRelayGrants:  relay,
	}
	log.Fatal(http.ListenAndServe(fmt.Sprintf(":%d", controlPort), control))
}
