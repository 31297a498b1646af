"""MovieLens: the 100K files, the later .dat and .csv layouts, and RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.fetch import MOVIELENS_100K, registry_files
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.data.readers.tables import collect_events, collect_items
from storerec.errors import DataError

_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)

_U_DATA = Layout("delimited", "\t", quote=None, names=("user_id", "item_id", "rating", "timestamp"))
# Ratings are numbers only, so a single colon with an empty field between serves the fast reader.
_RATINGS_DAT = Layout("delimited", ":", None, ("user_id", "_1", "item_id", "_2", "rating", "_3", "timestamp"))


def movielens_100k(*, cache: Path | None = None) -> tuple[Catalogue, Histories]:
    """MovieLens 100K (1,682 films, 943 users, 100,000 ratings): fetched on first use, then from the cache.

    Attributes: title, year, genres. All ratings count as events, whatever their stars. Source: F. M. Harper
    and J. A. Konstan, 2015, "The MovieLens Datasets: History and Context", as carried by the package recbole
    1.2.1.

    Raises
    ------
    FetchError
        The files could not be fetched.
    """
    items, events = registry_files(MOVIELENS_100K, cache=cache)
    return read_atomic(items, events)


def read_movielens(
    folder: Path | str, *, bad_rows: BadRows = "error", unknown: Unknown = "drop"
) -> tuple[Catalogue, Histories]:
    """Read an unpacked MovieLens folder, of whichever layout it has.

    u.item and u.data (100K: ``|``, Latin-1), movies.dat and ratings.dat (1M, 10M: ``::``), movies.csv and
    ratings.csv (20M and later), or RecBole's ``*.item`` and ``*.inter``. All ratings count as events.
    Attributes: title (in 100K, 1M, 10M and later with the year in it, as written there) and genres, divided
    by ", ".

    Raises
    ------
    DataError
        The folder holds none of these layouts, or a file is bad (RowError with its line).
    """
    folder = Path(folder)
    if (folder / "u.item").is_file():
        return _read_100k(folder, bad_rows, unknown)
    if (folder / "movies.dat").is_file():
        return _read_dat(folder, bad_rows, unknown)
    if (folder / "movies.csv").is_file():
        movies = RowReader(folder / "movies.csv", bad_rows=bad_rows)
        catalogue = _with_genres(movies, "movieId")
        ratings = RowReader(folder / "ratings.csv", bad_rows=bad_rows)
        return catalogue, collect_events(ratings, catalogue, "userId", "movieId", "timestamp", unknown=unknown)
    atomic = sorted(folder.glob("*.item"))
    if atomic:
        return read_atomic(atomic[0], atomic[0].with_suffix(".inter"), bad_rows=bad_rows, unknown=unknown)
    raise DataError(f"{folder}: no MovieLens files; expected u.item, movies.dat, movies.csv or *.item")


def read_atomic(
    items: Path | str, events: Path | str, *, bad_rows: BadRows = "error", unknown: Unknown = "drop"
) -> tuple[Catalogue, Histories]:
    """Read RecBole's atomic files: tab-divided, each column's type after a colon
    (``movie_title:token_seq``).

    Attributes are all item columns, without their types; MovieLens' columns get the names title, year and
    genres.

    Raises
    ------
    DataError
        A file or column is missing (RowError for a bad row, with its line).
    """
    layout = Layout("delimited", "\t", quote=None)
    reader = RowReader(items, layout, bad_rows=bad_rows)
    reader.require({"item_id:token": ""})
    catalogue = collect_items(reader, "item_id:token")
    better = {"movie_title": "title", "release_year": "year", "class": "genres"}
    plain = {name: name.split(":")[0] for name in catalogue.attributes}
    frame = catalogue.frame.rename({name: better.get(short, short) for name, short in plain.items()})
    catalogue = Catalogue(frame, "title" if "title" in frame.columns else frame.columns[1])
    reader = RowReader(events, layout, bad_rows=bad_rows)
    columns = ("user_id:token", "item_id:token", "timestamp:float")
    return catalogue, collect_events(reader, catalogue, *columns, unknown=unknown)


def rating_columns(place: Path, bad_rows: BadRows) -> tuple[RowReader, tuple[str, str, str, str]]:
    """Open a folder's ratings, or RecBole's ``.inter`` file: user, item, time and stars columns by name.

    Raises
    ------
    DataError
        The folder holds none of the layouts of :func:`read_movielens`.
    """
    plain = ("user_id", "item_id", "timestamp", "rating")
    atomic = [place] if place.is_file() else sorted(place.glob("*.inter"))
    if (place / "u.data").is_file():
        return RowReader(place / "u.data", _U_DATA, bad_rows=bad_rows), plain
    if (place / "ratings.dat").is_file():
        return RowReader(place / "ratings.dat", _RATINGS_DAT, bad_rows=bad_rows), plain
    if (place / "ratings.csv").is_file():
        return RowReader(place / "ratings.csv", bad_rows=bad_rows), ("userId", "movieId", "timestamp", "rating")
    if atomic:
        columns = ("user_id:token", "item_id:token", "timestamp:float", "rating:float")
        return RowReader(atomic[0], Layout("delimited", "\t", quote=None), bad_rows=bad_rows), columns
    raise DataError(f"{place}: no MovieLens ratings; expected u.data, ratings.dat, ratings.csv or *.inter")


def _read_100k(folder: Path, bad_rows: BadRows, unknown: Unknown) -> tuple[Catalogue, Histories]:
    columns = ("item_id", "title", "release", "video", "imdb", *_GENRES_100K)
    layout = Layout("delimited", "|", quote=None, names=columns)
    # The 100K files are Latin-1 (Les Misérables and others), as their README does not say but their bytes do.
    reader = RowReader(folder / "u.item", layout, encoding="latin-1", bad_rows=bad_rows)
    raw = collect_items(reader, "item_id").frame
    flagged = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES_100K]
    frame = raw.select(
        "item_id",
        "title",
        pl.col("release").str.extract(r"(\d{4})$").fill_null("").alias("year"),  # 01-Jan-1995
        pl.concat_str(flagged, separator=", ", ignore_nulls=True).alias("genres"),
    )
    catalogue = Catalogue.from_frame(frame)
    reader = RowReader(folder / "u.data", _U_DATA, bad_rows=bad_rows)
    return catalogue, collect_events(reader, catalogue, "user_id", "item_id", "timestamp", unknown=unknown)


def _read_dat(folder: Path, bad_rows: BadRows, unknown: Unknown) -> tuple[Catalogue, Histories]:
    movies = folder / "movies.dat"
    try:
        movies.read_text(encoding="utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"  # 1M is Latin-1, 10M is UTF-8
    layout = Layout("delimited", "::", quote=None, names=("item_id", "title", "genres"))
    catalogue = _with_genres(RowReader(movies, layout, encoding=encoding, bad_rows=bad_rows), "item_id")
    reader = RowReader(folder / "ratings.dat", _RATINGS_DAT, bad_rows=bad_rows)
    return catalogue, collect_events(reader, catalogue, "user_id", "item_id", "timestamp", unknown=unknown)


def _with_genres(reader: RowReader, item_id: str) -> Catalogue:
    reader.require({item_id: ""})
    catalogue = collect_items(reader, item_id, text=("title", "genres"))
    genres = pl.col("genres").str.replace_all("|", ", ", literal=True)
    return Catalogue(catalogue.frame.with_columns(genres), catalogue.title_attribute)
