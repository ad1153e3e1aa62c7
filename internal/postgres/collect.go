package postgres

import "database/sql"

// Collect reads rows to their end, each by scan, and closes them. It takes the query's error too, so that a caller has one
// error to wrap.
func Collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) (list []T, _ error) {
	return list, Each(rows, err, func() error {
		item, err := scan(rows)
		if err == nil {
			list = append(list, item)
		}
		return err
	})
}

// Each calls read for each row, to the end or the first error, and closes the rows. It takes the query's error too, as Collect
// does.
func Each(rows *sql.Rows, err error, read func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ScanOne scans a row that has one column.
func ScanOne[T any](rows *sql.Rows) (v T, err error) {
	err = rows.Scan(&v)
	return v, err
}
