package load

import "github.com/ClickHouse/clickhouse-go/v2/lib/driver"

// Conn is a connection pool as Connect returns it.
type Conn = driver.Conn
