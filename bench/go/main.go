// The Go baseline: httputil.ReverseProxy as one would write it for this work, with a pool
// of kept connections and pooled copy buffers. Usage: reverseproxy LISTEN BLUE GREEN
package main

import (
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"time"
)

const blueShare = 0.8

// buffers spare the garbage collector 32 KiB a response.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte    { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }

func main() {
	listen, blue, green := os.Args[1], os.Args[2], os.Args[3]
	rand.Seed(time.Now().UnixNano())
	proxy := &httputil.ReverseProxy{
		Director: func(r *http.Request) {
			color, host := "green", green
			if rand.Float64() < blueShare {
				color, host = "blue", blue
			}
			r.URL.Scheme = "http"
			r.URL.Host = host
			r.Header.Set("Color", color)
			if _, sent := r.Header["User-Agent"]; !sent {
				r.Header["User-Agent"] = nil // or Go would send its own
			}
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
			MaxIdleConns:        512,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		BufferPool: &buffers{sync.Pool{New: func() any { buf := make([]byte, 32<<10); return &buf }}},
	}
	log.Fatal(http.ListenAndServe(listen, proxy))
}
