-- Expected and present bars: one row for each symbol and month of the grid, in one pass over each table.
-- Distinct open times are counted as bits of a bit string, whose size is that of a month for any number of bars.
WITH grid AS (
    SELECT unnest($symbols) AS symbol, month, month_start_us, month_end_us
    FROM (SELECT unnest($months) AS month, unnest($starts) AS month_start_us, unnest($ends) AS month_end_us)
),
counted AS (
    SELECT symbol, month, count(*) AS rows,
           bit_count(bitstring_agg(((open_time_us - month_start_us) // {step})::INTEGER, 0, {most})
               FILTER (open_time_us % {step} = 0 AND open_time_us >= month_start_us AND open_time_us < month_start_us + {month})) AS present,
           max(open_time_us) AS newest_us,
           count(*) FILTER (source = 'monthly') AS monthly, count(*) FILTER (source = 'daily') AS daily, count(*) FILTER (source = 'rest') AS rest
    FROM (SELECT open_time_us, source, symbol, month FROM ({bars}) JOIN grid USING (symbol, month)) JOIN grid USING (symbol, month)
    GROUP BY symbol, month
),
missing AS (
    SELECT symbol, month,
           sum(bars) FILTER (status = 'open' AND cause NOT IN ({not_expected})) AS missing,
           sum(bars) FILTER (status = 'open' AND explained AND cause NOT IN ({not_expected})) AS explained,
           sum(bars) FILTER (status = 'open' AND NOT explained) AS unexplained,
           sum(bars) FILTER (status = 'filled') AS filled,
           sum(bars) FILTER (status = 'open' AND cause = '{suspended}') AS suspended
    FROM ({gaps}) GROUP BY symbol, month
),
-- Adjacent ranges are one gap, also if their causes or months differ.
adjacent AS (
    SELECT symbol, month, bars, sum(begins) OVER (PARTITION BY symbol ORDER BY start_us) AS island
    FROM (SELECT symbol, month, bars, start_us,
                 coalesce(start_us > lag(end_us) OVER (PARTITION BY symbol ORDER BY start_us), true)::INTEGER AS begins
          FROM ({gaps}) WHERE status = 'open' AND cause NOT IN ({not_expected}))
),
longest AS (
    SELECT symbol, month, max(whole) AS longest
    FROM (SELECT symbol, month, sum(bars) OVER (PARTITION BY symbol, island) AS whole FROM adjacent) GROUP BY symbol, month
),
ledger AS (
    SELECT symbol, month, expected, as_of_us, bars_sha256, gaps_sha256,
           greatest(0, least(month_end_us, $known_by) - greatest(end_us, month_start_us)) // {step} AS unjudged
    FROM ({windows}) JOIN grid USING (symbol, month)
),
conflicting AS (SELECT symbol, month, count(DISTINCT open_time_us) AS conflicts FROM ({conflicts}) GROUP BY symbol, month)
SELECT grid.symbol, grid.month, ledger.expected + ledger.unjudged AS expected, coalesce(counted.present, 0) AS present, coalesce(counted.rows - counted.present, 0) AS duplicates,
       (coalesce(missing.missing, 0) + coalesce(ledger.unjudged, 0))::BIGINT AS missing, coalesce(missing.explained, 0)::BIGINT AS explained,
       (coalesce(missing.unexplained, 0) + coalesce(ledger.unjudged, 0))::BIGINT AS unexplained, coalesce(missing.suspended, 0)::BIGINT AS suspended,
       coalesce(ledger.unjudged, 0) AS unjudged, coalesce(missing.filled, 0)::BIGINT AS filled,
       greatest(coalesce(longest.longest, 0), coalesce(ledger.unjudged, 0))::BIGINT AS longest_gap, coalesce(conflicting.conflicts, 0) AS conflicts,
       coalesce(counted.monthly, 0) AS monthly, coalesce(counted.daily, 0) AS daily, coalesce(counted.rest, 0) AS rest,
       counted.newest_us, ledger.as_of_us, ledger.bars_sha256, ledger.gaps_sha256
FROM grid LEFT JOIN counted USING (symbol, month) LEFT JOIN missing USING (symbol, month) LEFT JOIN conflicting USING (symbol, month)
LEFT JOIN ledger USING (symbol, month) LEFT JOIN longest USING (symbol, month)
ORDER BY grid.symbol, grid.month
