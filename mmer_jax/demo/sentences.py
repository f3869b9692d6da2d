"""The sentences that are spoken, each with paraphrases that keep its meaning and its ambiguity."""

from typing import NamedTuple

AMBIGUOUS_SHARE = 0.38
NEGATIVE_SHARE = 0.3
SLOTS = {
    "name": "Tom Anna Mark Julia Peter Laura David Emma Frank Nina Oscar Ruth".split(),
    "thing": "keys phone car letter ticket jacket camera laptop wallet guitar".split(),
    "place": "station office kitchen garden school market airport hotel library theater".split(),
    "time": [
        "this morning",
        "last night",
        "yesterday",
        "on Monday",
        "an hour ago",
        "again today",
        "last week",
        "on Sunday",
    ],
}
# One row a sentence: as it is said first, then its paraphrases. A slot stands in all or in none.
POOLS = {
    "ang": [
        ("How dare you touch my {thing}.", "Who said you could put your hands on my {thing}."),
        (
            "Stop shouting at me, {name}.",
            "{name}, quit yelling at me.",
            "Don't you raise your voice at me, {name}.",
        ),
        ("Get out of my {place} right now.", "Leave my {place} this second."),
        (
            "You broke the {thing} on purpose and you know it.",
            "You wrecked the {thing} deliberately, don't deny it.",
        ),
        ("I am sick of your excuses, {name}.", "I have had enough of your excuses, {name}."),
        ("Don't you ever lie to me about the {thing}.", "Never lie to my face about the {thing}."),
        (
            "That is outrageous and you will pay for it, {name}.",
            "It's a disgrace, {name}, and it will cost you.",
        ),
        (
            "Shut the door and leave me alone, {name}.",
            "Close that door and get away from me, {name}.",
        ),
        (
            "I told you a hundred times not to use my {thing}.",
            "How many times must I say it, keep off my {thing}.",
        ),
        ("This is your fault, {name}, all of it.", "You are to blame for everything, {name}."),
    ],
    "sad": [
        ("I miss {name} so much it hurts.", "It hurts how badly I miss {name}."),
        (
            "I cried in the {place} {time}.",
            "I was in tears at the {place} {time}.",
            "I wept in the {place} {time}.",
        ),
        (
            "Nothing feels right since {name} passed away.",
            "Since {name} died everything feels wrong.",
        ),
        ("I am so lonely without you, {name}.", "Without you, {name}, I feel all alone."),
        (
            "I just want to sleep and forget the {place}.",
            "I only wish to lie down and not think of the {place}.",
        ),
        ("We buried my grandmother {time}.", "My grandmother's funeral was {time}."),
        (
            "My heart is broken and I can't stop crying, {name}.",
            "I am heartbroken, {name}, the tears won't end.",
        ),
        (
            "I don't think {name} is ever coming home.",
            "I fear that {name} will never come home.",
        ),
        ("I feel so empty at the {place}.", "There is such an emptiness in me at the {place}."),
        ("I wish I could say goodbye to {name}.", "If only I could bid {name} farewell."),
    ],
    "hap": [
        (
            "I got the job at the {place}, isn't that wonderful.",
            "They hired me at the {place}, how wonderful is that.",
        ),
        ("{name} and I are getting married.", "I am going to marry {name}."),
        (
            "We won the {thing} at the show, I love it.",
            "The {thing} is our prize from the show, I adore it.",
        ),
        (
            "This is the best day of my life, {name}.",
            "{name}, I never had a better day.",
            "No day was ever as great as this one, {name}.",
        ),
        (
            "What a lovely surprise, thank you for the {thing}.",
            "Thanks for the {thing}, such a nice surprise.",
        ),
        (
            "I am so glad you came to the {place}.",
            "I am delighted that you made it to the {place}.",
        ),
        ("Guess what, {name} is having a baby.", "You won't guess, {name} is pregnant."),
        (
            "The party at the {place} was fantastic.",
            "We had an amazing party at the {place}.",
        ),
        ("We laughed so hard {time}, it was great.", "It was such fun, we laughed a lot {time}."),
        (
            "I passed the exam {time}, I am so proud.",
            "I am very proud, I made it through the exam {time}.",
        ),
    ],
    "neu": [
        (
            "The {place} opens at nine and closes at five.",
            "Opening hours of the {place} are nine to five.",
        ),
        ("Please put the {thing} on the second shelf.", "The {thing} goes on the second shelf."),
        (
            "You need to fill out this form for the {place} first.",
            "First complete this form for the {place}.",
        ),
        (
            "Turn left after the {place} and walk two blocks.",
            "Go left past the {place}, then two blocks on foot.",
        ),
        ("The meeting with {name} is in room twelve.", "You meet {name} in room twelve."),
        ("I usually take the bus to the {place}.", "Mostly I go to the {place} by bus."),
        (
            "Could you spell your last name for {name}.",
            "Please give {name} the spelling of your surname.",
        ),
        (
            "The {thing} is in the drawer under the desk.",
            "You find the {thing} in the desk drawer.",
        ),
        (
            "It takes about twenty minutes to the {place}.",
            "The {place} is some twenty minutes away.",
            "Count on twenty minutes to the {place}.",
        ),
        ("I wrote the number down for {name}.", "I made a note of the number for {name}."),
    ],
    "negative": [
        ("{name} lost the {thing} {time}.", "The {thing} was lost by {name} {time}."),
        ("They fired {name} from the {place} {time}.", "{name} got fired at the {place} {time}."),
        (
            "Somebody stole my {thing} at the {place}.",
            "At the {place} my {thing} was stolen.",
        ),
        (
            "{name} left without telling me {time}.",
            "{time} {name} went away and never told me.",
        ),
        (
            "She said she never wants to see me at the {place}.",
            "She told me not to show up at the {place} ever.",
        ),
        (
            "They cancelled everything at the {place} {time}.",
            "All was called off at the {place} {time}.",
        ),
        ("{name} forgot my birthday.", "My birthday slipped {name}'s mind."),
        (
            "My {thing} is gone and nobody will help me.",
            "I lost my {thing} and no one lends a hand.",
            "No one helps me and my {thing} has vanished.",
        ),
        ("{name} hung up on me {time}.", "{name} ended the call on me {time}."),
        ("You promised you would come to the {place}.", "You swore to come to the {place}."),
    ],
    "ambiguous": [
        ("I saw {name} at the {place} {time}.", "At the {place} I met {name} {time}."),
        ("Did you hear what {name} said {time}.", "Have you heard what {name} was saying {time}."),
        ("I don't know what to say, {name}.", "I have no words, {name}."),
        ("Are you serious, {name}.", "Do you really mean that, {name}."),
        ("{name} called me {time}.", "{time} I had a call from {name}."),
        (
            "What are we going to do about the {thing}.",
            "What should we do with the {thing}.",
        ),
        ("I can't believe it, {name}.", "{name}, it is hard to believe."),
        ("So that is the {thing} from the {place}.", "So this {thing} comes from the {place}."),
        ("You know what {name} told me {time}.", "Do you know what I was told by {name} {time}."),
        (
            "Well, we are going to the {place} {time}.",
            "So we will head to the {place} {time}.",
        ),
        ("Tell me about the {place}, {name}.", "{name}, what about the {place}, tell me."),
        ("I have been thinking about the {thing}.", "The {thing} has been on my mind."),
        (
            "What happened at the {place} {time}.",
            "What went on at the {place} {time}.",
            "What took place at the {place} {time}.",
        ),
        ("Okay, {name}, go on.", "All right, {name}, continue."),
        ("It was the {thing} all along.", "All this time it was the {thing}."),
    ],
}
# Labels outside the four classes borrow the words of their neighbours.
BORROWED = {"exc": "hap", "fru": "ang", "sur": "hap", "fea": "sad", "dis": "ang"}


class Text(NamedTuple):
    """What is said, and the same in other words."""

    sentence: str
    paraphrase: str


def draw_pool(label, random):
    """Draws which pool an utterance with an emotion label takes its sentence from.

    Words carry mostly valence: a share of all labels is said with sentences that fit any of them,
    and a share of anger and sadness with bad news that fits both.

    Args:
        label: three letters, as in the label files.
        random: numpy RandomState.

    Returns:
        A key of `POOLS`.
    """
    chance = random.rand()
    pool = BORROWED.get(label, label)
    if chance < AMBIGUOUS_SHARE or pool not in POOLS:
        return "ambiguous"
    if pool in ("ang", "sad") and chance < AMBIGUOUS_SHARE + NEGATIVE_SHARE:
        return "negative"
    return pool


def draw_text(pool, random):
    """Draws a sentence of a pool, a Text."""
    row = POOLS[pool][random.randint(len(POOLS[pool]))]
    slots = {name: values[random.randint(len(values))] for name, values in SLOTS.items()}
    paraphrase = row[1 + random.randint(len(row) - 1)]
    return Text(_fill(row[0], slots), _fill(paraphrase, slots))


def _fill(template, slots):
    text = template.format(**slots)
    return text[0].upper() + text[1:]
