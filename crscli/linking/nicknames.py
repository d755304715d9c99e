"""What film people are called besides their names, written by hand; used where the person is in the catalogue."""

NICKNAMES: dict[str, str] = {
    nickname: name
    for name, nicknames in {
        "Dwayne Johnson": "the rock; dwayne the rock johnson; duane johnson; dwane johnson; rock johnson",
        "Arnold Schwarzenegger": (
            "arnold; arnie; swarzenegger; schwartzenegger; schwarzeneger; schwarzenager; shwarzenegger; "
            "swartzenegger; schwarzennegger; swartzeneger; arnold schwarz; arnold schwarzenagger"
        ),
        "Leonardo DiCaprio": "leo; leo dicaprio; leo di caprio; leonardo; dicaprio; di caprio; decaprio; leo decaprio",
        "Jennifer Lopez": "jlo; j lo; j.lo",
        "Jennifer Lawrence": "jlaw; j law",
        "Scarlett Johansson": "scarjo; scar jo; johansson; scarlet johanson; scarlett johanson",
        "Robert Downey Jr.": "rdj; downey jr; robert downy jr",
        "Samuel L. Jackson": "sam jackson; sam l jackson; samuel jackson",
        "Sylvester Stallone": "sly stallone; stallone; stalone",
        "Johnny Depp": "depp; johny dep; johnny dep",
        "Brad Pitt": "pitt; bradd pitt",
        "Denzel Washington": "denzel",
        "Keanu Reeves": "keanu; keanu reaves; keanu reves; kenau reeves",
        "Matthew McConaughey": "mcconaughey; mcconaughy; mathew mcconaughey; matthew mcconaghey; mathew mcconaghy",
        "Quentin Tarantino": "tarantino; quinten tarantino; quinten tarentino; tarentino; tarintino",
        "Steven Spielberg": "spielberg; stephen spielberg; speilberg; steven speilberg",
        "Alfred Hitchcock": "hitchcock",
        "Martin Scorsese": "scorsese; scorcese; scorsesee; martin scorcese",
        "Stanley Kubrick": "kubrick",
        "Christopher Nolan": "nolan; chris nolan",
        "Jean-Claude Van Damme": "van damme; jcvd; jean claude van dam; vandamme; van dam",
        "Robert De Niro": "de niro; deniro; dinero; bob de niro; robert dinero",
        "Al Pacino": "pacino",
        "Charlize Theron": "charlize",
        "Chris Hemsworth": "hemsworth",
        "Zach Galifianakis": "galifianakis; galifinakis; zach galifinakis; zack galifianakis; zach galafinakis",
        "Melissa McCarthy": "melissa mccarthey; melissa mcarthy",
        "Owen Wilson": "owen willson",
        "Eddie Murphy": "eddy murphy; eddie murphey; eddie murphie",
        "Nicolas Cage": "nick cage; nic cage; nicholas cage",
        "Joseph Gordon-Levitt": "jgl; gordon levitt",
        "Sacha Baron Cohen": "baron cohen; sasha baron cohen",
        "M. Night Shyamalan": "shyamalan; night shyamalan; m night; m night shamalan; shamalan; shyamalon",
        "Benedict Cumberbatch": "cumberbatch",
        "Jake Gyllenhaal": "gyllenhaal; jake gyllenhall; jake gylenhaal; jake gyllenhal",
        "Reese Witherspoon": "witherspoon; reese",
        "Rachel McAdams": "mcadams; rachel mcadam; rachael mcadams",
        "Hugh Jackman": "jackman",
        "Channing Tatum": "channing",
        "Ryan Reynolds": "ryan renolds; ryan raynolds",
        "Gal Gadot": "gadot; gal godot; gal gadott",
    }.items()
    for nickname in (part.strip().replace(".", " ") for part in nicknames.split(";"))
}
"""Nickname -> name, both as people write them; also spellings that are further away than one typo."""

NEEDS_COMPANY = {"the rock", "arnold", "leo", "leonardo", "reese", "pitt", "depp", "nolan", "dinero", "van dam"}
"""Nicknames that mean something else as well: they count after "with", before "movies", beside another person."""
