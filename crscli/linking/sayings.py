"""How seekers say what they think of films, people and genres: patterns over text in lower case.

A film stands in the text as a run of MASK, so that no word of a title is read as praise.
"""

import re

MASK = "\x00"
QUOTES = str.maketrans("’‘`´“”", "''''\"\"")
CLAUSE_END = re.compile(r"[.!?;\n]+|\b(?:but|although|though|however|except)\b")
# A comma or "and" ends a part that may share its verb with the next one: "I loved X, Y and have not seen Z".
PART_END = re.compile(
    r"[,()]| - |--|\s(?=(?:can you|could you|do you|have you|are there|is there|any other|what about|how about|"
    r"what else)\b)|\band(?= (?:i|i've|i'm|it|that|they|he|she|we|have|haven't|havent|never|not|also|loved|"
    r"hated|liked|"
    r"want|will|would|am|looking|really|my|if)\b)"
)
QUESTION = re.compile(
    r"\W*(?:(?:so|and|or|well|ok|okay|oh|hmm|yes|no|yeah) )*(?:is|was|are|were|do|does|did|have you|has|had|can|"
    r"could|"
    r"would|will|what|who|which|where|when|how|any|anything|got|ever|you)\b"
)
# Politeness and praise of the talk: "thanks, have a good one".
POLITE = re.compile(
    r"\b(?:good|great|nice|lovely|wonderful|awesome|fun|enjoy)(?: \w+)? (?:day|night|evening|weekend|one!|time|"
    r"luck|talking|chat|"
    r"chatting|talk|suggestions?|ideas?|help|recommendations?|morning|afternoon|to meet)\b|\bhave a (?:good|"
    r"great|nice) one\b|"
    r"\b(?:nice|great|good) (?:talking|chatting|to)\b|\byou(?:'ve| have)? been (?:great|awesome|\w+ helpful)\b|"
    r"\benjoy your\b|"
    r"\b(?:i'm|im|i am|doing|it's all) (?:doing |all )?(?:pretty |very )?(?:good|great|well|fine)(?= *(?:[,!.?]|"
    r"$|thank|how))|"
    r"\bas (?:good|great|funny|scary) as\b|\b(?:good|great|awesome|amazing|interesting|funny) (?:things|"
    r"reviews?|point)\b|"
    r"\b(?:great|good|awesome|perfect|cool|nice|excellent|wonderful|fantastic)\W+(?:thanks?|thank|ty|thx)\b|"
    r"\bgood to know\b|"
    r"\A\W*(?:(?:ok|okay|oh|alright|cool|nice|great|good|awesome|perfect)\b[ ,]*){1,2}(?=[.!,?]|\Z)|"
    r"\bgood(?= for (?:kids|children|him|her))"
)
WISH = re.compile(
    r"\b(?:looking for|recommend|suggest|suggestions?|i want|i need|i'd like|i would like|would love|"
    r"in the mood|do you (?:know|have)|"
    r"any(?:thing)?(?: \w+)? (?:other|more|good|else)|can you|could you|what about|how about|maybe something|"
    r"need a|want a|up for)\b"
)
NOT = r"(?:not|never|\w+n't|dont|didnt|doesnt|isnt|wasnt|werent|arent|cant|couldnt|wouldnt|havent|hasnt|aint)"
ADVERBS = (
    r"(?:(?:really|particularly|that|very|too|much|exactly|all|quite|even|personally|ever|actually|super|so|the|"
    r"a|an|big|"
    r"huge|of|it|them|those|been|my|necessarily|usually|typically|generally|overly|entirely|terribly|care|as|"
    r"into|much) )*"
)
KIND = (
    r"(?:movies?|films?|flicks?|genres?|kinds?|types?|sorts?|stuff|things?|actors?|actress(?:es)?|directors?|"
    r"remakes?|sequels?|shows?|"
    r"comedies|dramas|thrillers|musicals|westerns|cartoons|documentaries|gore|horror|sci-?fi|romance|action)\b"
)
# Not about a film: "I don't like scary movies", "love comedies"; "those movies" are films that were named.
OF_A_KIND = rf"(?! ?(?:(?!(?:that|this|it|those|these|the|both|all|them|any|either)\b)[\w'-]+[ ,/]+){{0,4}}{KIND})"
NOT_LIKE = (
    rf"{NOT} {ADVERBS}(?:(?:like[ds]?|love[ds]?|enjoy(?:ed)?|cared?|(?:a |my )?fans?(?: of)?|into|crazy about|"
    rf"stand|get into|got into|big on|"
    r"interested(?: in)?|impressed(?: by)?)\b(?: for| with| watching)?|(?:(?:cup of tea|thing|type|style|taste|"
    r"kind of)\b))"
)
HATE = r"\b(?:hate[ds]?|hating|dislike[ds]?|despise[ds]?|loathed?)\b"
BAD = re.compile(
    rf"\b(?:{NOT} {ADVERBS}(?:good|great|funny|interesting|finish|worth)\b(?! as)|"
    r"(?:terrible|awful|horrible|boring|bored|worst|stupid|sucks?|sucked|garbage|trash|lame|dumb|overrated|"
    r"disappoint(?:ing|ed|ment)|"
    r"waste of|hard to watch|weak|annoying|meh)\b(?! ending| (?:\w+ )?(?:movies|comed|funny|humou?r|fun)| that)|"
    r"(?<!not )(?<!not a )(?<!nt )(?<!n't )(?<!too )(?<!that )(?<!so )(?<!half )bad(?! ass| guy| boy| day| teacher)|"
    r"(?:way |far |bit |little |just )?too (?:scary|gory|long|slow|silly|weird|violent|dumb|cheesy|predictable|"
    r"dark|sad|creepy|corny|childish|bloody|much)\b)|"
    rf"\b(?:not|no) (?:the )?{MASK}+(?: \(\d+\))?(?: movies?)? again\b"
)
# Somebody else's opinion, or a rhetorical question.
OTHERS = re.compile(
    r"\b(?:he|she|they|people|husband|wife|boyfriend|girlfriend|kids?|son|daughter|critics|who|everyone|"
    r"friends?|some)\b[^,]{0,20}$"
)
LOVE = r"(?:love[ds]?|loving|luv|enjoy(?:ed|s|ing)?|liked|likes|fans? of|a (?:big |huge )?fan)\b"
LIKE = (
    r"(?:(?:\bi|we|i've|also|really|always|do|did|both|kinda|absolutely|definitely|quite)(?: \w+)? like|^\W*like)\b"
    r"(?! to\b| the one\b| if\b)"
)
SIMILAR = re.compile(
    rf"\b(?:(?:movies?|films?|flicks?|something|ones?|anything|things?|stuff|comed(?:y|ies)|thrillers?|dramas?|"
    rf"horror|action|more|along the lines of|same as)"
    rf"(?: more| just| kind of| sort of| really)?(?: like| of|,)?|similar to|such as|in the vein of|"
    rf"(?<!is it )(?<!is that )(?<!you )(?<!it's )(?<!looks )(?<!sounds )(?<!not )\blike) ?(?:the |maybe |a |an |"
    rf"movies? |films? |\"|')*{MASK}"
)
NOT_LIKED_BY_OTHERS = re.compile(rf"\b{NOT} {ADVERBS}like\b")
"""The "like" of "they didn't like X" compares nothing."""
PRAISE = re.compile(
    r"\b(?:great|good|(?:not|\w+n't|wasnt|isnt) (?:too |that |so |half |a )?bad|awesome|amazing|fantastic|"
    r"excellent|favou?rites?|fav|"
    r"faves?|favs|hilarious|funny|"
    r"classics?|best|fun|wonderful|"
    r"perfect|brilliant|incredible|superb|cool|cute|interesting|entertaining|masterpiece|beautiful|solid|"
    r"well done|goodie|goody|ok|okay|"
    r"right up my alley|enjoyable|nice|crack(?:s|ed)? me up|obsessed|gem|adorable|epic|intense|decent|"
    r"phenomenal|fabulous|greatest|alright|timeless|spectacular|"
    r"well (?:made|acted)|worth|laughed|greats?|superior|prefer|(?:watch|see) (?:it |that |them |this )?again|"
    r"re-?watch(?:ed|ing)?|"
    r"(?:many|several|hundred|million|thousand|multiple|few|\d+|so many) times|scared me|made me (?:cry|laugh))\b"
)
WATCH = r"(?:see|seen|watch|watched|watching|hear|heard|check|catch|try|rent|look|find|give|add|view|get)"
UNSEEN = re.compile(
    rf"\b{NOT}\b[^,]{{0,25}}?\b(?:see|seen|saw|watch|watched|hear|heard|checked|catch|caught|familiar)\b|"
    rf"\b(?:want|wanted|wanting|going|need|needed|have|has|like|love|meaning|plan|planning|try|excited|tempted|"
    rf"waiting|able|got) to (?:\w+ )?{WATCH}\b|"
    rf"(?:\b(?:will|ill|should|gonna|wanna|gotta|might|may|must|would|can't wait|cant wait|let me)|'ll|"
    rf"'d)(?: \w+){{0,3}}? {WATCH}\b|"
    rf"\bcheck(?:ing)? (?:it|that|this|them|those|these|{MASK}+)(?: both| all| one)? ?out\b|\bcheck out\b|"
    r"\b(?:might|would|'d|will|may) (?:\w+ )?(?:like|love|enjoy) (?:it|that|this|them|those)\b|\b(?:on|"
    r"to) my (?:\w+ )?list\b|\blooking forward\b|"
    r"\b(?:sounds?|seems?|looks|look) (?:\w+ )?(?:like|good|great|interesting|awesome|amazing|fun|funny|perfect|"
    r"scary|cool|nice)\b|"
    rf"\bheard (?:of|about|good|great|it|that|a lot|it's|its|{MASK})|\bnew to me\b"
)
# "I have not seen it in years", "I will watch it again" tell that it was seen.
SEEN_BEFORE = re.compile(
    r"\b(?:again|re-?watch\w*|re watch|in (?:a|so|such|quite|very|forever|ages|years)(?: \w+)? ?(?:while|time|"
    r"long|years)?|for (?:a while|years|ages))\b"
)
SEEN = re.compile(
    r"\b(?:seen|watched|saw|rewatch(?:ed)?|own|owned|re-watched)\b|\bi have\b(?! to| not| a | never| been)|"
    r"\b(?:remember|grew up (?:on|with|watching))\b|\b(?:was|were) \w+"
)
OPENING = r"\W*(?:(?:oh|ah|haha|lol|hmm|um|well|actually|ok|okay) )*"
YES = re.compile(
    OPENING
    + r"(?:yes+|yeah+|yep|yup|yea|ya|sure have|of course|i have|i did|absolutely|definitely|indeed|i do)\b(?! to)"
)
AGREES = re.compile(
    OPENING
    + r"(?:yes |yeah )?(?:me too|same here|(?:i |totally |completely )*agree|so true|yes it (?:is|was)|it (?:is|was))\b"
)
ASKS_WHETHER_LIKED = re.compile(r"\b(?:did|do) you (?:\w+ )?(?:like|love|enjoy)\b")
NO = re.compile(
    OPENING + r"(?:no|nope|nah|not yet|i haven't|i have not|i havent|haven't|havent|have not|never|not really)\b"
)
SURELY_LIKED = re.compile(r"\b(?:loved|liked|enjoyed)\b")
PLURAL = re.compile(r"\b(?:both|those|them|they|these|all|each|either)\b")
LIKED = re.compile(rf"\b{LOVE}|{LIKE}|{MASK} fan\b")
LIKED_A_FILM = re.compile(rf"(?:\b{LOVE}|{LIKE}){OF_A_KIND}")
DISLIKED = re.compile(rf"{HATE}|\b{NOT_LIKE}")
DISLIKED_A_FILM = re.compile(rf"(?:{HATE}|\b{NOT_LIKE}){OF_A_KIND}")
# About people and genres. Between the verb and the name stands a list at most, no film and no new subject.
LISTED = rf"(?:(?!\b(?:it|he|she|they|you|is|was|are|were|recommend|suggest|in|as)\b)[^{MASK}]){{0,60}}$"
KIND_FAN = re.compile(r"(?: (?:movies?|films?|comed(?:y|ies)))? (?:fan|person|guy|lover|buff)s?\b")
KIND_NOT = re.compile(
    r"(?<!is )(?<!was )(?<!it's )(?<!that's )(?<!its )\b(?:no|not|nothing|without|(?:don't|dont|"
    r"do not) (?:really )?want|avoid)"
    r"(?: (?:too|a|an|any|into|overly|really|so|very|another|necessarily|anything|that|of|huge|big|all|much|"
    r"super|more|or|"
    r"[\w-]+,))*\W*$"
)
KIND_DISLIKED = re.compile(rf"(?:{HATE}|\b{NOT_LIKE}){LISTED}")
KIND_LIKED = re.compile(
    r"(?:(?:^\W*(?:(?:yes|yeah|oh|and|ok|well|hi|hello|hey|so) )*|\b(?:i|we|i've|and|also|really|always|do|just|"
    r"absolutely|kinda|"
    r"mostly|usually|both|generally|personally|too|actually|typically|definitely) )"
    r"(?:like|love|loved|liked|luv|enjoy|enjoyed|prefer|adore)\b(?! to\b)|\b(?:i'm|im|i am)(?: \w+){0,2} into|"
    r"\bfan of|"
    rf"(?<!your )\bfavou?rites?\b(?: \w+){{0,2}}(?: is| are)?){LISTED}"
)
KIND_GOOD = re.compile(
    r"(?:'s| is| was| has been)(?: \w+){0,2} (?:great|good|awesome|amazing|hilarious|funny|favou?rite|best|"
    r"fantastic|brilliant)\b"
)
KIND_BAD = re.compile(
    r" (?:is|was|are)(?: \w+){0,2} (?:annoying|awful|terrible|boring|overrated|not funny|worst)\b| sucks\b"
)
# What was asked, where the message only names films.
ASKS_FOR_LIKED = re.compile(
    r"\b(?:what|which|any|some|name|tell me)\b.{0,60}\b(?:like|enjoy|enjoyed|liked|love|loved|favou?rites?|into)\b"
)
ANNOUNCES = re.compile(r"\b(?:like|such as|favou?rites?(?: is| are)?|love[ds]?|enjoy(?:ed)?|liked)\W*$")
FILLER = re.compile(
    r"\b(?:and|or|also|then|maybe|of|course|the|a|i|think|well|hmm|oh|lol|uh|um|yes|yeah|anything|movies?|"
    r"films?|series|both|all|to|name|few|"
    r"things|stuff|like|such|as|etc|too|probably|even|is|are|one|any|some|my|ok|hi|hello|for|example|let|see|me|"
    r"just|with)\b|[^\w\x00]+|\d+"
)
