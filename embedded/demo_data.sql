-- The demo's tables. embedded/demo_data.py runs the two parts in one transaction.

DROP TABLE IF EXISTS flights, weather, planes, airports, airlines;

CREATE TABLE airlines (carrier text PRIMARY KEY, name text NOT NULL);

CREATE TABLE airports (
    faa text PRIMARY KEY, name text NOT NULL, lat double precision NOT NULL,
    lon double precision NOT NULL, alt integer NOT NULL, tz integer NOT NULL, dst text NOT NULL,
    tzone text
);

CREATE TABLE planes (
    tailnum text PRIMARY KEY, year integer, type text NOT NULL, manufacturer text NOT NULL,
    model text NOT NULL, engines integer NOT NULL, seats integer NOT NULL, speed integer,
    engine text NOT NULL
);

CREATE TABLE weather (
    origin text NOT NULL, year integer NOT NULL, month integer NOT NULL, day integer NOT NULL,
    hour integer NOT NULL, temp double precision, dewp double precision, humid double precision,
    wind_dir integer, wind_speed double precision, wind_gust double precision,
    precip double precision NOT NULL, pressure double precision, visib double precision NOT NULL,
    time_hour timestamptz NOT NULL
);

CREATE TABLE flights (
    year integer NOT NULL, month integer NOT NULL, day integer NOT NULL, dep_time integer,
    sched_dep_time integer NOT NULL, dep_delay integer, arr_time integer,
    sched_arr_time integer NOT NULL, arr_delay integer, carrier text NOT NULL,
    flight integer NOT NULL, tailnum text, origin text NOT NULL, dest text NOT NULL,
    air_time integer, distance integer NOT NULL, hour integer NOT NULL, minute integer NOT NULL,
    time_hour timestamptz NOT NULL
);

-- after the data

-- NOT VALID states a relation that the rows may break. They do: 50,094 flights are by planes the
-- registry does not know, 7,602 go to four airports outside the list (BQN, PSE, SJU, STT), 1,556
-- left at hours without weather. Declared all the same, since a model joins along them.
ALTER TABLE weather ADD PRIMARY KEY (origin, time_hour),
    ADD FOREIGN KEY (origin) REFERENCES airports;

ALTER TABLE flights ADD PRIMARY KEY (time_hour, carrier, flight),
    ADD FOREIGN KEY (carrier) REFERENCES airlines,
    ADD FOREIGN KEY (origin) REFERENCES airports,
    ADD FOREIGN KEY (dest) REFERENCES airports NOT VALID,
    ADD FOREIGN KEY (tailnum) REFERENCES planes NOT VALID,
    ADD FOREIGN KEY (origin, time_hour) REFERENCES weather NOT VALID;

CREATE INDEX ON flights (carrier);
CREATE INDEX ON flights (origin, dest);
CREATE INDEX ON flights (dest);
CREATE INDEX ON flights (tailnum);
CREATE INDEX ON flights (year, month, day);

COMMENT ON TABLE airlines IS 'Names of the carriers';
COMMENT ON COLUMN airlines.carrier IS 'Two-letter code';
COMMENT ON TABLE airports IS 'Airports of the USA';
COMMENT ON COLUMN airports.faa IS 'FAA code, such as JFK';
COMMENT ON COLUMN airports.alt IS 'Altitude in feet';
COMMENT ON COLUMN airports.tz IS 'Offset from GMT in hours';
COMMENT ON COLUMN airports.dst IS 'Daylight saving: A = US rules, N = none, U = unknown';
COMMENT ON COLUMN airports.tzone IS 'IANA time zone';
COMMENT ON TABLE planes IS 'Planes of the FAA registry; many planes of flights are missing: use LEFT JOIN';
COMMENT ON COLUMN planes.tailnum IS 'Tail number';
COMMENT ON COLUMN planes.year IS 'Year of manufacture';
COMMENT ON COLUMN planes.speed IS 'Average cruising speed in mph; mostly missing';
COMMENT ON COLUMN planes.engine IS 'Type of engine; engines is their number';
COMMENT ON TABLE weather IS 'Hourly weather at EWR, JFK and LGA';
COMMENT ON COLUMN weather.hour IS 'Hour in New York; time_hour is unambiguous';
COMMENT ON COLUMN weather.temp IS 'Temperature in °F';
COMMENT ON COLUMN weather.dewp IS 'Dew point in °F';
COMMENT ON COLUMN weather.humid IS 'Relative humidity in %';
COMMENT ON COLUMN weather.wind_dir IS 'Wind direction in degrees';
COMMENT ON COLUMN weather.wind_speed IS 'Wind speed in mph; one reading above 1,000 is an error of the source';
COMMENT ON COLUMN weather.wind_gust IS 'Gust speed in mph';
COMMENT ON COLUMN weather.precip IS 'Precipitation in inches';
COMMENT ON COLUMN weather.pressure IS 'Pressure at sea level in millibars';
COMMENT ON COLUMN weather.visib IS 'Visibility in miles';
COMMENT ON TABLE flights IS 'All 336,776 flights that left EWR, JFK or LGA in 2013';
COMMENT ON COLUMN flights.year IS 'Year of departure; with month and day the local date';
COMMENT ON COLUMN flights.dep_time IS 'Departure, local time as HHMM; NULL = cancelled';
COMMENT ON COLUMN flights.sched_dep_time IS 'Scheduled departure, local time as HHMM';
COMMENT ON COLUMN flights.dep_delay IS 'Departure delay in minutes; negative = early';
COMMENT ON COLUMN flights.arr_time IS 'Arrival, local time as HHMM';
COMMENT ON COLUMN flights.sched_arr_time IS 'Scheduled arrival, local time as HHMM';
COMMENT ON COLUMN flights.arr_delay IS 'Arrival delay in minutes; negative = early';
COMMENT ON COLUMN flights.flight IS 'Flight number; not unique';
COMMENT ON COLUMN flights.tailnum IS 'Tail number; not every one is in planes';
COMMENT ON COLUMN flights.dest IS 'Destination; BQN, PSE, SJU and STT are not in airports';
COMMENT ON COLUMN flights.air_time IS 'Time in the air in minutes';
COMMENT ON COLUMN flights.distance IS 'Distance in miles';
COMMENT ON COLUMN flights.hour IS 'Hour of the scheduled departure';
COMMENT ON COLUMN flights.time_hour IS 'Scheduled departure to the hour, as an instant';

ANALYZE airlines, airports, planes, weather, flights;
